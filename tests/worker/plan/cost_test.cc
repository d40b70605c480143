#include "worker/plan/cost.h"

#include <gtest/gtest.h>

#include "tests/worker/plan/llama3_8b.h"
#include "worker/plan/activations.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

contract::ModelSize llama3_70b() {
  return {.layers = 80, .hiddenSize = 8192, .heads = 64, .keyValueHeads = 8, .feedForwardSize = 28672, .vocabularySize = 128256};
}

TEST(NumParameters, OfLlama3AreThePublishedOnes) {
  EXPECT_EQ(num_parameters(llama3_8b()), 8'030'261'248);
  EXPECT_EQ(num_parameters(llama3_70b()), 70'553'706'496);
}

TEST(NumParameters, CountATiedHeadOnce) {
  auto tied = llama3_8b();
  tied.tieEmbeddings = true;
  EXPECT_EQ(num_parameters(llama3_8b()) - num_parameters(tied), 128256LL * 4096);
}

// NVIDIA publishes both tokens/s and TFLOP/s a GPU for these runs (Megatron Bridge, docs/performance-summary): our count of operations
// must explain one by the other.
TEST(FlopsPerToken, ExplainPublishedThroughputs) {
  EXPECT_NEAR(14'451 * flops_per_token(llama3_8b(), 8192) / 1e12, 744, 0.744);
  EXPECT_NEAR(1'602 * flops_per_token(llama3_70b(), 8192) / 1e12, 719, 0.719 * 1.1);
}

TEST(RecomputedFlopsPerToken, AreThoseOfTheProductsThatRunAgain) {
  using contract::RecomputeMode;
  const auto size = llama3_8b();
  const double layers = 32, width = 4096, key_width = 1024, feed_forward = 14336, tokens = 8192;
  EXPECT_EQ(recomputed_flops_per_token(size, 8192, RecomputeMode::kNone), 0);
  EXPECT_DOUBLE_EQ(recomputed_flops_per_token(size, 8192, RecomputeMode::kFull),
                   2 * layers * (2 * width * width + 2 * width * key_width + 2 * width * feed_forward + tokens * width));
  EXPECT_DOUBLE_EQ(recomputed_flops_per_token(size, 8192, RecomputeMode::kSelective),
                   2 * layers * (width * width + width * key_width + width * feed_forward + tokens * width));
  EXPECT_DOUBLE_EQ(recomputed_flops_per_token(size, 8192, RecomputeMode::kSelective, true), 2 * layers * tokens * width);
  EXPECT_DOUBLE_EQ(recomputed_flops_per_token(size, 8192, RecomputeMode::kFull, true),
                   recomputed_flops_per_token(size, 8192, RecomputeMode::kFull));
  // Less than the third that is often reckoned with, since neither the head nor the last product is computed again.
  EXPECT_LT(recomputed_flops_per_token(size, 8192, RecomputeMode::kFull), flops_per_token(size, 8192) / 3);
}

contract::TrainingJobSpec llama3_8b_job(contract::ComputePrecision precision) {
  contract::TrainingJobSpec spec;
  spec.model.size = llama3_8b();
  spec.data.sequenceLength = 4096;
  spec.training.globalBatchSize = 8;
  spec.training.precision.compute = precision;
  return spec;
}

/// Of eight data ranks with a GPU each.
contract::TrainingJobSpec on_gpus(contract::ComputePrecision precision, std::int32_t stage) {
  auto spec = llama3_8b_job(precision);
  spec.workers.count = 8;
  spec.workers.gpusPerWorker = 1;
  spec.parallelism.zero.stage = stage;
  return spec;
}

TEST(BytesPerRank, OfOneMicroBatchAreSixteenAParameterInFullPrecisionAndEighteenInBf16) {
  const std::int64_t parameters = num_parameters(llama3_8b()), largest = std::int64_t{128256} * 4096;
  for (const auto& [precision, bytes_each] :
       {std::pair{contract::ComputePrecision::kFP32, 16}, {contract::ComputePrecision::kBF16, 18}}) {
    auto spec = llama3_8b_job(precision);
    spec.training.globalBatchSize = 1;
    spec.data.sequenceLength = 16;  // so that gradients are most
    EXPECT_EQ(bytes_per_rank(spec, 0).total(), parameters * bytes_each + 4 * largest) << "what AdamW makes of a tensor on CPUs";
    spec.workers.gpusPerWorker = 1;
    EXPECT_NEAR(static_cast<double>(bytes_per_rank(spec, 0).total()), static_cast<double>(parameters * bytes_each), 1e6)
        << "what goes through the layers is little";
  }
}

// The table of Rajbhandari et al. with gradients summed in FP32: 18 bytes a parameter, 6 + 12/d, 2 + 16/d, 18/d; beside them what is
// gathered and exchanged at the moment.
TEST(BytesPerRank, WithZeroAreThePublishedFormulas) {
  const auto parameters = static_cast<double>(num_parameters(llama3_8b()));
  const double largest = 128256.0 * 4096;  // the embedding; the head with its norm has 4,096 more
  for (const std::int32_t dp : {8, 64}) {
    for (const std::int32_t stage : {1, 2, 3}) {
      auto spec = llama3_8b_job(contract::ComputePrecision::kBF16);
      spec.workers.count = dp;
      spec.training.globalBatchSize = 2 * dp;
      spec.data.sequenceLength = 16;  // so that gradients are most
      spec.parallelism.zero.stage = stage;
      const auto bytes = bytes_per_rank(spec, 0);
      const auto near = [&](std::int64_t found, double expected) {
        EXPECT_NEAR(static_cast<double>(found), expected, 0.01 * expected) << "stage " << stage << ", dp " << dp;
      };
      const double part = largest / dp;
      near(bytes.master, 4 * parameters / dp);
      near(bytes.optimizer, 8 * parameters / dp);
      const double layer = layer_matmul_parameters(llama3_8b());
      const double first = 4 * (2 * dp + 1) * part, two = first + 4 * (2 * dp + 1) * layer / dp;  // Gloo's, which adds up itself
      // At stage 2 the look-up goes, behind the first layer; at stage 3 both still do while the next micro-batch's is gathered.
      near(bytes.gradients, stage == 1 ? 4 * parameters + first : 4 * parameters / dp + two + (stage == 2 ? 2 * largest : 0));
      near(bytes.parameters, stage < 3 ? 2 * parameters : 2 * (2 * largest + layer) + 2 * (part + layer / dp));
    }
  }
}

// Read from the GPU in both cases: the tensors and what the allocator and CUDA have beside them (docs/performance.md). FP32 [V, D] of the
// head's gradient is there, no copy of all logits.
TEST(BytesPerRank, OnAGpuAreNearWhatAnH200Measured) {
  auto spec = on_gpus(contract::ComputePrecision::kBF16, 0);
  spec.workers.count = 1;
  spec.model.size->layers = 4;
  spec.training.globalBatchSize = 4;
  constexpr double kGibibyte = 1 << 30;
  for (const auto& [micro_batch, measured] : {std::pair{2, 42.7}, {4, 43.4}}) {
    spec.parallelism.microBatchSize = micro_batch;
    const double foretold = static_cast<double>(bytes_per_rank(spec, 0).total()) / kGibibyte;
    EXPECT_LT(foretold, measured) << micro_batch;
    EXPECT_GT(foretold, 0.9 * measured) << micro_batch;
  }
}

TEST(BytesPerRank, OfTheFusedLossAreThoseOfPyTorchsInFp16AndWithTensorRanks) {
  const auto logits = [](auto&& edit) {
    auto spec = on_gpus(contract::ComputePrecision::kBF16, 0);
    spec.workers.count = 2;
    edit(spec);
    return most_activation_bytes(spec, 0);
  };
  const std::int64_t fused = logits([](auto&) {});
  const std::int64_t half = logits([](auto& spec) { spec.training.precision.compute = contract::ComputePrecision::kFP16; });
  EXPECT_EQ(half - fused, 12 * 4096LL * 128256 - 6 * (128256LL * 4096 + 4096LL * 4096));
}

TEST(BytesPerRank, WithZeroInFullPrecisionHaveNoMasterBesideWholeWeights) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kFP32);
  spec.workers.count = 8;
  spec.parallelism.zero.stage = 1;
  EXPECT_EQ(bytes_per_rank(spec, 0).master, 0);
  spec.parallelism.zero.stage = 3;
  EXPECT_GT(bytes_per_rank(spec, 0).master, 0);
  const auto sharded = bytes_per_rank(spec, 0);
  EXPECT_LT(sharded.total() - sharded.activations, num_parameters(llama3_8b()) * 6);
}

/// At each stage of ZeRO, on the device and offloaded; `expect_moments` is told the moments' bytes in FP32 and in that format.
template <class Expect>
void expect_that_moments_alone_change(contract::OptimizerStates format, const Expect& expect_moments) {
  for (const std::int32_t stage : {0, 1, 3}) {
    for (const bool offloads : {false, true}) {
      if (stage == 0 && offloads) continue;
      SCOPED_TRACE(testing::Message() << stage << (offloads ? ", offloaded" : ""));
      const auto bytes = [&](contract::OptimizerStates states, bool offload) {
        auto spec = on_gpus(contract::ComputePrecision::kBF16, stage);
        spec.training.precision.optimizerStates = states;
        spec.parallelism.zero.offload.optimizer = offload;
        return bytes_per_rank(spec, 0);
      };
      const std::int64_t in_fp32 = bytes(contract::OptimizerStates::kFP32, false).optimizer,
                         found = bytes(format, false).optimizer;
      expect_moments(static_cast<double>(in_fp32), static_cast<double>(found));
      auto all = bytes(format, offloads);
      (offloads ? all.host : all.optimizer) += in_fp32 - found;
      EXPECT_EQ(all, bytes(contract::OptimizerStates::kFP32, offloads));
    }
  }
}

TEST(BytesPerRank, OfMomentsInBf16AreHalf) {
  expect_that_moments_alone_change(contract::OptimizerStates::kBF16,
                                   [](double in_fp32, double found) { EXPECT_EQ(2 * found, in_fp32); });
}

/// 2 bytes a number and 8 a block of 256; a norm, which has 4,096 numbers, keeps its 8 bytes each.
TEST(BytesPerRank, OfMomentsInEightBitsAreAQuarterAndScales) {
  expect_that_moments_alone_change(contract::OptimizerStates::kBlockwise8Bit, [](double in_fp32, double found) {
    EXPECT_NEAR(found, (2 + 8.0 / 256) / 8 * in_fp32, 1e-3 * found);
  });
}

TEST(BytesPerRank, WithShardsInAWorkerAreThoseOfItsDataRanks) {
  auto spec = on_gpus(contract::ComputePrecision::kBF16, 3);
  spec.workers.count = 2;
  spec.workers.gpusPerWorker = 4;
  spec.parallelism.zero.shardGroup = contract::ShardGroup::kNode;
  const auto in_worker = bytes_per_rank(spec, 0);
  spec.workers.count = 1;
  spec.training.globalBatchSize = 4;
  spec.parallelism.zero.shardGroup = contract::ShardGroup::kWorld;
  EXPECT_EQ(in_worker, bytes_per_rank(spec, 0));
}

TEST(BytesPerRank, OffloadTheOptimizersStateToTheHost) {
  for (const auto precision : {contract::ComputePrecision::kBF16, contract::ComputePrecision::kFP32}) {
    const std::int64_t each = precision == contract::ComputePrecision::kFP32 ? 4 : 2;
    for (const std::int32_t stage : {1, 2, 3}) {
      auto spec = on_gpus(precision, stage);
      const auto plain = bytes_per_rank(spec, 0);
      spec.parallelism.zero.offload.optimizer = true;
      const auto offloaded = bytes_per_rank(spec, 0);
      const std::int64_t changed = plain.optimizer / 8;
      EXPECT_EQ(plain.host, 0);
      const std::int64_t sums = zero_memory(spec, 0).host_sums;
      EXPECT_NEAR(static_cast<double>(sums), 4 * static_cast<double>(changed), 1e-3 * static_cast<double>(sums));
      EXPECT_EQ(offloaded.host, 12 * changed + sums + 3 * (std::int64_t{1} << 22) * each);
      EXPECT_EQ(offloaded.master + offloaded.optimizer, 0);
      const std::int64_t at_the_head = each * backward_units(spec, 0).front().weights;
      EXPECT_EQ(offloaded.parameters, stage == 3 ? each * changed + at_the_head : plain.parameters) << stage;
    }
  }
}

TEST(BytesPerRank, OffloadTheSumsOfGradientsToTheHostWhereEachMicroBatchIsExchanged) {
  auto spec = on_gpus(contract::ComputePrecision::kBF16, 2);
  spec.workers.count = 1;
  spec.training.globalBatchSize = 4;
  spec.data.sequenceLength = 16;  // so that gradients are most
  const std::int64_t parameters = num_parameters(llama3_8b());
  EXPECT_EQ(bytes_per_rank(spec, 0).gradients, 6 * parameters) << "the sum, and a micro-batch's own";
  spec.parallelism.zero.offload.optimizer = true;
  EXPECT_LT(bytes_per_rank(spec, 0).gradients, 2 * parameters) << "a few units: the embedding is a fifteenth";
  spec.parallelism.zero.stage = 1;
  EXPECT_GE(bytes_per_rank(spec, 0).gradients, 4 * parameters) << "their sum stays until the last micro-batch";
}

TEST(BytesPerRank, OffloadTheParametersToTheHostAlsoOfOneDataRank) {
  auto spec = on_gpus(contract::ComputePrecision::kBF16, 3);
  const auto plain = bytes_per_rank(spec, 0);
  spec.parallelism.zero.offload = {.parameters = true, .optimizer = true};
  const auto offloaded = bytes_per_rank(spec, 0);
  EXPECT_EQ(offloaded.parameters, 2 * backward_units(spec, 0).front().weights);
  EXPECT_EQ(offloaded.host, plain.optimizer / 8 * (12 + 2) + zero_memory(spec, 0).host_sums);
  spec.workers.count = 1;
  const auto alone = bytes_per_rank(spec, 0);
  EXPECT_LT(alone.parameters, num_parameters(llama3_8b())) << "two units, and what they are gathered in";
  EXPECT_EQ(alone.host, 18 * num_parameters(llama3_8b()));
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  EXPECT_EQ(bytes_per_rank(spec, 0).host, 16 * num_parameters(llama3_8b())) << "masters are the weights";
}

TEST(BytesPerRank, OffloadedWithoutAGpuAreAllInOneMemory) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kFP32);
  spec.parallelism.zero = {.stage = 1, .offload = {.optimizer = true}};
  const auto bytes = bytes_per_rank(spec, 0);
  EXPECT_EQ(bytes.host, 0);
  EXPECT_EQ(bytes.master, 4 * num_parameters(llama3_8b())) << "apart from the weights";
  EXPECT_EQ(bytes.optimizer, 8 * num_parameters(llama3_8b()) + 3 * (std::int64_t{1} << 22) * 4);
  EXPECT_GT(bytes.gradients, 4 * num_parameters(llama3_8b()));
}

TEST(BytesPerRank, OffloadActivationsButThoseOfTwoLayers) {
  for (const auto mode : {contract::RecomputeMode::kNone, contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
    auto spec = on_gpus(contract::ComputePrecision::kBF16, 0);
    spec.training.activationCheckpointing.mode = mode;
    const std::int64_t plain = most_activation_bytes(spec, 0);
    spec.training.activationCheckpointing.offload = true;
    const std::int64_t layer = bytes_per_rank(spec, 0).host / llama3_8b().layers;
    EXPECT_EQ(plain - most_activation_bytes(spec, 0), (llama3_8b().layers - 2) * layer);
    spec.workers.gpusPerWorker = 0;
    EXPECT_EQ(bytes_per_rank(spec, 0).host, 0);
  }
}

TEST(BytesPerRank, OffloadActivationsOfEveryMicroBatchThatAPipelineHasInFlight) {
  auto spec = on_gpus(contract::ComputePrecision::kBF16, 0);
  spec.workers.count = 4;
  spec.parallelism.pipeline = 4;
  spec.training.globalBatchSize = 16;
  spec.model.size->vocabularySize = 16;  // so that all stages have eight layers
  spec.training.activationCheckpointing.offload = true;
  const std::int64_t boundary = std::int64_t{4096} * 4096 * 2;
  const auto first = bytes_per_rank(spec, 0), second = bytes_per_rank(spec, 1);
  EXPECT_EQ(first.host, second.host / 3 * 4);
  const std::int64_t layer = first.host / (4 * 8);
  const std::int64_t tables = rotary_bytes(spec);
  EXPECT_EQ(most_activation_bytes(spec, 0), 2 * layer + 2 * 4 * boundary + tables) << "two layers, and what stages hand on";
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kZeroBubble;
  const auto split = bytes_per_rank(spec, 1);
  EXPECT_EQ(split.host, 4 * 8 * layer);
  EXPECT_EQ(most_activation_bytes(spec, 1),
            3 * (8 * layer + 2 * boundary) + 8 * late_activation_bytes(spec, 4096) + 2 * boundary + tables)
      << "one of the four is between the halves";
}

/// Before the eighth micro-batch of eight there are sums of four, of two and of one; that one still in BF16, and FP32 when it is added to.
TEST(BytesPerRank, WithCanonicalKeepASumForEachDigitOfTheNumberOfMicroBatches) {
  const std::int64_t parameters = num_parameters(llama3_8b()), head = std::int64_t{128256} * 4096 + 4096;  // and its norm
  for (const auto precision : {contract::ComputePrecision::kFP32, contract::ComputePrecision::kBF16}) {
    const std::int64_t each = precision == contract::ComputePrecision::kFP32 ? 4 : 2;
    auto spec = llama3_8b_job(precision);
    spec.data.sequenceLength = 16;  // so that gradients are most
    EXPECT_EQ(bytes_per_rank(spec, 0).gradients, (4 + each) * parameters) << "Fast: the sum, and a micro-batch's own";
    spec.training.reduction = contract::Reduction::kCanonical;
    EXPECT_EQ(bytes_per_rank(spec, 0).gradients, (3 * 4 + each) * parameters);
    spec.workers.count = 8;
    spec.training.globalBatchSize = 8 * 8;
    EXPECT_GE(bytes_per_rank(spec, 0).gradients, (2 * 4 + each) * parameters);
    EXPECT_LE(bytes_per_rank(spec, 0).gradients, (2 * 4 + each) * parameters + (each == 4 ? 4 : 4 + each) * head)
        << "of the eighth's own no more than a unit's, since that is exchanged, and FP32 of what that is added to";
    spec.parallelism.zero.stage = 3;
    EXPECT_GE(bytes_per_rank(spec, 0).gradients, 3 * 4 * parameters) << "sums stay whole";
  }
}

TEST(BytesPerRank, OfATiedEmbeddingOnOneStageHaveBothOfItsGradients) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kBF16);
  spec.data.sequenceLength = 16;  // so that gradients are most
  spec.model.size->tieEmbeddings = true;
  EXPECT_EQ(bytes_per_rank(spec, 0).gradients, 6 * num_parameters(llama3_8b())) << "as if the head had a weight of its own";
  spec.workers.count = 2;
  spec.parallelism.pipeline = 2;
  const auto first = bytes_per_rank(spec, 0);
  EXPECT_EQ(first.gradients, 3 * first.parameters) << "of the look-up alone";
}

TEST(BytesPerRank, OfDataRanksHaveAFlatCopyOfTheUnitThatIsExchanged) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kBF16);
  spec.data.sequenceLength = 16;
  spec.workers.count = 8;
  EXPECT_EQ(bytes_per_rank(spec, 0).gradients, 4 * num_parameters(llama3_8b()) + 4 * std::int64_t{128256} * 4096);
  spec.workers.count = 16;
  spec.training.globalBatchSize = 16;
  spec.parallelism.pipeline = 2;
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kZeroBubble;
  const auto first = bytes_per_rank(spec, 0);
  EXPECT_EQ(first.gradients, (4 + 2) * first.parameters / 2 + (4 - 2) * std::int64_t{128256} * 4096)
      << "of a backward that is split, whose own gradients turn into a flat sum unit by unit";
}

TEST(BytesPerRank, FallWithTensorAndPipelineParallelism) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kBF16);
  const auto whole = bytes_per_rank(spec, 0);
  spec.workers.count = 8;
  spec.parallelism.tensor = 8;
  const auto eighth = bytes_per_rank(spec, 0);
  EXPECT_NEAR(static_cast<double>(eighth.parameters), static_cast<double>(whole.parameters) / 8, 1e6);  // norms stay whole
  spec.parallelism.tensor = 1;
  spec.parallelism.pipeline = 8;
  for (std::int32_t stage = 0; stage < 8; ++stage) EXPECT_LT(bytes_per_rank(spec, stage).parameters, whole.parameters / 4);
}

TEST(BytesPerRank, WithShardsOfTokensHaveTheResidualStreamOfOneTokenInSoManyAsThereAreTensorRanks) {
  for (const auto mode : {contract::RecomputeMode::kNone, contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
    auto spec = on_gpus(contract::ComputePrecision::kBF16, 0);
    spec.workers.gpusPerWorker = 8;
    spec.parallelism.tensor = 8;
    spec.training.activationCheckpointing.mode = mode;
    const std::int64_t whole = kept_activation_bytes(spec, 4096);
    spec.parallelism.sequence = true;
    const std::int64_t width = std::int64_t{4096} * 4096 * 2;  // of the residual stream
    // None keeps it four times: two inputs of norms and two outputs, each norm with a number in FP32 a token.
    const std::int64_t shared = mode == contract::RecomputeMode::kNone   ? 4 * width + 2 * 4096 * 4
                                : mode == contract::RecomputeMode::kFull ? width
                                                                         : 2 * width;
    EXPECT_EQ(whole - kept_activation_bytes(spec, 4096), shared - shared / 8) << contract::name_of(mode);
  }
}

TEST(BytesPerRank, FirstStagesKeepMoreMicroBatchesInFlight) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kBF16);
  spec.workers.count = 4;
  spec.parallelism.pipeline = 4;
  EXPECT_GT(most_activation_bytes(spec, 0), 2 * most_activation_bytes(spec, 2) * 9 / 10);
}

/// What a stage hands on, and what comes back for it.
TEST(BytesPerRank, OfAStageHaveItsOutputsUntilTheirBackward) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kBF16);
  spec.workers.count = 4;
  spec.parallelism.pipeline = 4;
  spec.training.globalBatchSize = 16;
  spec.model.size->vocabularySize = 16;  // so that all stages have eight layers
  const std::int64_t tokens = 4096, layers = 8 * kept_activation_bytes(spec, tokens);
  for (const std::int32_t stage : {0, 1, 2}) {
    EXPECT_EQ(most_activation_bytes(spec, stage), (4 - stage) * (layers + stream_bytes(spec, tokens)) + rotary_bytes(spec))
        << stage;
  }
}

TEST(BytesPerRank, FollowWhatTheScheduleKeepsInFlight) {
  auto spec = llama3_8b_job(contract::ComputePrecision::kBF16);
  spec.workers.count = 4;
  spec.parallelism.pipeline = 4;
  spec.training.globalBatchSize = 16;
  spec.model.size->vocabularySize = 16;  // so that all stages have eight layers
  const auto activations = [&](contract::PipelineScheduleName name, std::int32_t chunks, std::int32_t stage) {
    spec.parallelism.pipelineSchedule = {.name = name, .virtualStages = chunks};
    return most_activation_bytes(spec, stage) - chunks * rotary_bytes(spec);
  };
  using Name = contract::PipelineScheduleName;
  const std::int64_t one = activations(Name::kOneForwardOneBackward, 1, 0) / 4;  // 4 of 8 layers are in flight on stage 0
  EXPECT_EQ(activations(Name::kOneForwardOneBackward, 1, 2), 2 * one);
  EXPECT_EQ(activations(Name::kGPipe, 1, 2), 16 * one);
  EXPECT_EQ(activations(Name::kZeroBubble, 1, 2),
            2 * one + 2 * (8 * late_activation_bytes(spec, 4096) + 2 * stream_bytes(spec, 4096)))
      << "two as forward left them, two between the halves of backward";
  const std::int64_t chunk = (one + stream_bytes(spec, 4096)) / 2;  // four layers, and an output of its own
  EXPECT_EQ(activations(Name::kInterleaved, 2, 0), (2 * 3 + 4 + 1) * chunk);
  EXPECT_EQ(activations(Name::kInterleaved, 2, 2), (2 * 1 + 4 + 1) * chunk);
}

}  // namespace
}  // namespace trainyard::plan
