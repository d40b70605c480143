#include "worker/plan/roofline.h"

#include <random>

#include <gtest/gtest.h>

#include "crds/contract/layout.h"
#include "crds/contract/validate.h"
#include "worker/plan/cost.h"
#include "worker/plan/offload_cost.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

constexpr double kPeak = 989e12;
constexpr double kRounding = 1e-9;  // bytes of rings are whole numbers

Device h100() { return find_device("NVIDIA-H100-80GB-HBM3").value(); }

/// Llama 3 8B on GPUs of one worker.
contract::TrainingJobSpec job_on_one_worker(std::int32_t gpus) {
  contract::TrainingJobSpec spec;
  spec.workers.gpusPerWorker = gpus;
  spec.model.size = contract::ModelSize{
      .layers = 32, .hiddenSize = 4096, .heads = 32, .keyValueHeads = 8, .feedForwardSize = 14336, .vocabularySize = 128256};
  spec.data.train = {{.path = "/data/train", .format = contract::SourceFormat::kUInt32}};
  spec.data.sequenceLength = 4096;
  spec.training.steps = 10;
  spec.training.optimizer.learningRate = 1e-3;
  spec.training.globalBatchSize = gpus;
  return spec;
}

double mfu(const contract::TrainingJobSpec& spec, const Device& device, double network = 0) {
  return model_flops_utilization(spec, kPeak, step_time(spec, device, kPeak, network));
}

TEST(StepTime, OfOneGpuIsItsOperationsAndNothingElse) {
  const auto spec = job_on_one_worker(1);
  const auto time = step_time(spec, h100(), kPeak, 0);
  EXPECT_DOUBLE_EQ(time.step(), 4096 * flops_per_token(*spec.model.size, 4096) / kPeak);
  EXPECT_EQ(time, (StepTime{.compute = time.compute}));
  EXPECT_DOUBLE_EQ(mfu(spec, h100()), 1.0);
}

TEST(StepTime, HasOperationsThatAreDoneAgainButMfuCountsThemNot) {
  auto spec = job_on_one_worker(1);
  spec.training.activationCheckpointing.mode = contract::RecomputeMode::kFull;
  const double model = flops_per_token(*spec.model.size, 4096);
  const double again = recomputed_flops_per_token(*spec.model.size, 4096, contract::RecomputeMode::kFull);
  EXPECT_NEAR(mfu(spec, h100()), model / (model + again), 1e-12);
}

TEST(StepTime, HasTheLogitsTwiceInGPipe) {
  auto spec = job_on_one_worker(2);
  spec.parallelism.pipeline = 2;
  spec.model.size->layers = 2;  // so that the head is on the slower stage
  spec.training.globalBatchSize = 2;
  const auto compute = [&spec](contract::PipelineScheduleName name) {
    spec.parallelism.pipelineSchedule.name = name;
    return step_time(spec, h100(), kPeak, 0).compute;
  };
  EXPECT_NEAR(compute(contract::PipelineScheduleName::kGPipe) - compute(contract::PipelineScheduleName::kOneForwardOneBackward),
              2 * 4096 * 2 * 128256.0 * 4096 / kPeak, 1e-9);
}

TEST(StepTime, AddsTensorSumsToTheProductsThatWaitForThem) {
  auto spec = job_on_one_worker(4);
  spec.parallelism.tensor = 4;
  spec.training.globalBatchSize = 1;
  const auto time = step_time(spec, h100(), kPeak, 0);
  // 4 all-reduces a layer, one each for the embedding and the head, and three numbers a token for the loss, of which a rank sends 3/4 twice.
  const double bytes = 2.0 * 3 / 4 * ((4.0 * 32 + 2) * 4096 * 4096 * 2 + 3.0 * 4096 * 4);
  EXPECT_NEAR(time.tensor, bytes * (1 + 1.0 / 4) / (2.0 * 3 / 4) / 450e9, 1e-9) << "the switches add up";
  EXPECT_DOUBLE_EQ(time.step(), time.compute + time.tensor);
  EXPECT_NEAR(step_time(spec, find_device("NVIDIA-A100-SXM4-80GB").value(), kPeak, 0).tensor, bytes / 300e9, 1e-9) << "in a ring";
  Device alone = h100();
  alone.link_bytes = 0;
  EXPECT_NEAR(step_time(spec, alone, kPeak, 0).tensor, bytes / 64e9, 1e-9) << "over PCIe";
}

TEST(StepTime, WaitsNotForShardsThatGoBesideProducts) {
  auto spec = job_on_one_worker(4);
  spec.parallelism.tensor = 4;
  spec.training.globalBatchSize = 1;
  spec.parallelism.sequence = true;
  const auto time = step_time(spec, h100(), kPeak, 0);
  // 6 of 10 halves of a sum a layer, 2 for the embedding, 1 of 3 for the head, three numbers a token, and once the norms'.
  const double waited = 3.0 / 4 * (6.0 * 32 + 3) * 4096 * 4096 * 2, sums = 2.0 * 3 / 4 * (3.0 * 4096 * 4 + 65.0 * 4096 * 4);
  EXPECT_NEAR(time.tensor, (waited + sums) / 450e9, 1e-9);
  spec.parallelism.sequence = false;
  EXPECT_GT(step_time(spec, h100(), kPeak, 0).tensor, time.tensor);
}

TEST(StepTime, WaitsInAPipelineAsTheSchedulesDo) {
  auto spec = job_on_one_worker(4);
  spec.parallelism.pipeline = 4;
  spec.training.globalBatchSize = 8;
  spec.model.size->vocabularySize = 16;  // so that stages are alike
  const auto waits = [&spec](contract::PipelineScheduleName name, std::int32_t chunks = 1) {
    spec.parallelism.pipelineSchedule = {.name = name, .virtualStages = chunks};
    const auto time = step_time(spec, h100(), kPeak, 0);
    return time.idle / (time.compute + time.tensor);
  };
  using Name = contract::PipelineScheduleName;
  EXPECT_NEAR(waits(Name::kOneForwardOneBackward), 3.0 / 8, 1e-9);
  EXPECT_NEAR(waits(Name::kGPipe), 3.0 / 8, 1e-9);
  EXPECT_NEAR(waits(Name::kInterleaved, 2), 3.0 / 8 / 2, 1e-9);
  EXPECT_NEAR(waits(Name::kZeroBubble), 3.0 / 8 / 3, 1e-3) << "the gradients of the weights fill two thirds";
  spec.training.globalBatchSize = 2;
  EXPECT_NEAR(waits(Name::kZeroBubble), (3 * 2.0 / 3 - 1.0 / 3) / 2, 1e-3) << "too few to fill it";
}

TEST(StepTime, TakesWhatLastsLongestOfComputeNetworkAndHostAndThenTheOptimizer) {
  auto spec = job_on_one_worker(8);
  spec.parallelism.zero = {.stage = 3, .offload = {.optimizer = true}};
  const auto time = step_time(spec, h100(), kPeak, 0.001);
  EXPECT_GT(time.host, 0);
  EXPECT_GT(time.optimizer, 0);
  EXPECT_DOUBLE_EQ(time.step(), time.compute + time.optimizer);
  EXPECT_DOUBLE_EQ(step_time(spec, h100(), kPeak, 1000).step(), 1000 + time.optimizer);
  Device slow = h100();
  slow.host_bytes = 1e6;
  const auto slowly = step_time(spec, slow, kPeak, 0.001);
  EXPECT_DOUBLE_EQ(slowly.step(), slowly.host + slowly.optimizer);
}

TEST(HostTraffic, HasTheGradientsOnceMoreWhereWorkersKeepTheSameShards) {
  auto spec = job_on_one_worker(4);
  spec.workers.count = 2;
  spec.training.globalBatchSize = 8;
  spec.parallelism.zero = {.stage = 2, .shardGroup = contract::ShardGroup::kNode, .offload = {.optimizer = true}};
  const auto traffic = host_traffic_per_step(spec, 0);
  EXPECT_EQ(traffic.step_down, traffic.down);
  EXPECT_NEAR(static_cast<double>(traffic.step_up), 1.5 * static_cast<double>(traffic.down),
              1e-2 * static_cast<double>(traffic.down));
}

TEST(HostTraffic, IsWhatOffloadSendsOverPcie) {
  auto spec = job_on_one_worker(8);
  spec.training.globalBatchSize = 16;  // two micro-batches
  EXPECT_EQ(host_traffic_per_step(spec, 0), HostTraffic{});
  spec.parallelism.zero = {.stage = 3, .offload = {.optimizer = true}};
  const double parameters = static_cast<double>(num_parameters(*spec.model.size)), eighth = parameters / 8;
  const auto near = [](std::int64_t found, double expected) {
    EXPECT_NEAR(static_cast<double>(found), expected, expected / 100);
  };
  auto optimizer = host_traffic_per_step(spec, 0);
  near(optimizer.down, 2 * 4 * eighth);
  near(optimizer.up, 4 * eighth);  // for the second to be added to
  near(optimizer.step_up, 2 * eighth);
  EXPECT_EQ(optimizer.step_down, 0);
  spec.training.reduction = contract::Reduction::kCanonical;
  near(host_traffic_per_step(spec, 0).down, 4 * eighth);
  EXPECT_EQ(host_traffic_per_step(spec, 0).up, 0) << "the micro-batches' sum goes once";
  spec.parallelism.zero.offload.parameters = true;
  const auto both = host_traffic_per_step(spec, 0);
  EXPECT_EQ(both.step_up, 0) << "the new weights are on the host already";
  // Twice for each micro-batch, but of the embedding, a look-up, once.
  near(both.up, 2 * 2 * (2 * parameters - 128256.0 * 4096) / 8);
  spec.parallelism.zero = {};
  spec.training.activationCheckpointing = {.mode = contract::RecomputeMode::kFull, .offload = true};
  const auto activations = host_traffic_per_step(spec, 0);
  EXPECT_EQ(activations.up, std::int64_t{2} * 30 * 4096 * 4096 * 2) << "the inputs of all layers but two";
  EXPECT_EQ(activations.down, activations.up);
  spec.workers.gpusPerWorker = 0;
  EXPECT_EQ(host_traffic_per_step(spec, 0), HostTraffic{}) << "there is one memory";
}

class RandomLayouts : public ::testing::Test {
 protected:
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[std::uniform_int_distribution<std::size_t>(0, values.size() - 1)(random_)];
  }
  bool coin() { return pick({0, 1}) == 1; }

  /// That the worker would accept.
  contract::TrainingJobSpec layout() {
    for (;;) {
      auto spec = job_on_one_worker(pick({1, 2, 4, 8}));
      spec.workers.count = pick({1, 2, 3, 4, 8, 32});
      auto& parallelism = spec.parallelism;
      parallelism.tensor = pick({1, 2, 4, 8});
      parallelism.pipeline = pick({1, 1, 2, 3, 4, 8, 16});
      parallelism.microBatchSize = pick({1, 2, 4});
      parallelism.zero.stage = pick({0, 1, 2, 3});
      parallelism.zero.offload = {.parameters = coin(), .optimizer = coin()};
      using Name = contract::PipelineScheduleName;
      parallelism.pipelineSchedule.name =
          pick({Name::kOneForwardOneBackward, Name::kGPipe, Name::kInterleaved, Name::kZeroBubble});
      if (parallelism.pipelineSchedule.name == Name::kInterleaved) parallelism.pipelineSchedule.virtualStages = 2;
      spec.model.size->layers = pick({16, 32, 61});
      spec.model.size->tieEmbeddings = coin();
      spec.model.size->vocabularySize = pick({256, 50257, 128256});
      spec.data.sequenceLength = pick({128, 4096});
      spec.training.globalBatchSize = pick({12, 96, 256, 1536});
      using Mode = contract::RecomputeMode;
      spec.training.activationCheckpointing = {.mode = pick({Mode::kNone, Mode::kFull, Mode::kSelective}), .offload = coin()};
      if (coin()) spec.training.reduction = contract::Reduction::kCanonical;
      if (contract::validate(spec).empty()) return spec;
    }
  }
  Device device() {
    return {.half_flops = kPeak,
            .fp8_flops = 0,
            .link_bytes = 1e9 * pick({0, 30, 450, 900}),
            .host_bytes = 1e9 * pick({1, 32, 64, 450}),
            .network_bytes = 0};
  }

  std::mt19937 random_{20260101};
};

TEST_F(RandomLayouts, UseMoreThanNothingAndAtMostThePeak) {
  for (int i = 0; i < 2'000; ++i) {
    const auto spec = layout();
    const double share = mfu(spec, device(), pick({0, 1, 100}) / 10.0);
    EXPECT_GT(share, 0) << contract::encode(spec).dump();
    EXPECT_LE(share, 1) << contract::encode(spec).dump();
  }
}

TEST_F(RandomLayouts, UseNoLessOnAFasterMachine) {
  for (int i = 0; i < 500; ++i) {
    const auto spec = layout();
    const auto slow = device();
    const double before = mfu(spec, slow, 0.5);
    auto faster = slow;
    faster.host_bytes *= 2;
    EXPECT_GE(mfu(spec, faster, 0.5), before);
    if (slow.link_bytes > 0) {
      faster = slow;
      faster.link_bytes *= 2;
      EXPECT_GE(mfu(spec, faster, 0.5), before);
    }
    EXPECT_GE(mfu(spec, slow, 0.25), before);
    // Faster products make the step no longer, though they use less of their peak.
    EXPECT_LE(step_time(spec, slow, 2 * kPeak, 0.5).step(), step_time(spec, slow, kPeak, 0.5).step());
  }
}

TEST_F(RandomLayouts, UseNoLessWithoutRecomputationOffloadAndTheLikeAndWithLargerBatches) {
  for (int i = 0; i < 500; ++i) {
    const auto spec = layout();
    const auto on = device();
    const double share = mfu(spec, on) * (1 - kRounding);
    auto larger = spec;
    larger.training.globalBatchSize *= 2;
    // Offloaded sums of gradients that each micro-batch is added to come up for all but the first.
    const bool adds_up = spec.parallelism.zero.offload.optimizer && reduces_every_micro_batch(spec);
    if (!adds_up) {
      EXPECT_GE(mfu(larger, on), share) << contract::encode(spec).dump();
    }
    auto without = spec;
    without.training.activationCheckpointing.offload = false;
    EXPECT_GE(mfu(without, on), share);
    without = spec;
    without.parallelism.zero.offload.parameters = false;
    if (spec.parallelism.zero.offload.parameters) {
      // The new weights go up in the step then; beside forward nothing does.
      EXPECT_LE(step_time(without, on, kPeak, 0).host, step_time(spec, on, kPeak, 0).host);
    }
    without = spec;
    without.parallelism.zero.offload = {};
    EXPECT_GE(mfu(without, on), share);
    if (!spec.training.activationCheckpointing.offload) {  // what is not kept is not sent
      without = spec;
      without.training.activationCheckpointing.mode = contract::RecomputeMode::kNone;
      EXPECT_GE(mfu(without, on), share);
    }
  }
}

}  // namespace
}  // namespace trainyard::plan
