// What ranks need of their GPUs: reckoned once for all jobs of one layout, and known before nodes are searched for.

#include <algorithm>
#include <array>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/devices.h"
#include "controller/decide/elastic.h"
#include "controller/decide/json_lookup.h"
#include "controller/decide/memory_fit.h"
#include "controller/decide/plan.h"
#include "controller/decide/pod_template.h"
#include "crds/contract/validate.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using contract::TrainingJobSpec;
using test::at;

class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) {}
  int operator()(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  const char* one_of(const std::vector<const char*>& values) {
    return values[static_cast<std::size_t>((*this)(0, static_cast<int>(values.size()) - 1))];
  }

 private:
  std::mt19937 random_;
};

/// What bytes follow from.
struct LayoutField {
  const char* name;
  void (*change)(TrainingJobSpec&);
};
constexpr auto kLayoutFields = std::to_array<LayoutField>({
    {"workers.count", [](TrainingJobSpec& spec) { spec.workers.count = 3 - spec.workers.count; }},
    {"workers.gpusPerWorker", [](TrainingJobSpec& spec) { spec.workers.gpusPerWorker = 12 - spec.workers.gpusPerWorker; }},
    {"parallelism.tensor", [](TrainingJobSpec& spec) { spec.parallelism.tensor = 3 - spec.parallelism.tensor; }},
    {"parallelism.pipeline", [](TrainingJobSpec& spec) { spec.parallelism.pipeline = 3 - spec.parallelism.pipeline; }},
    {"parallelism.microBatchSize",
     [](TrainingJobSpec& spec) { spec.parallelism.microBatchSize = 3 - spec.parallelism.microBatchSize; }},
    {"parallelism.zero.stage",
     [](TrainingJobSpec& spec) { spec.parallelism.zero.stage = (spec.parallelism.zero.stage + 1) % 4; }},
    {"parallelism.zero.offload.optimizer",
     [](TrainingJobSpec& spec) {
       auto& zero = spec.parallelism.zero;
       zero.offload.optimizer = zero.stage > 0 && !zero.offload.optimizer;
     }},
    {"parallelism.pipelineSchedule.name",
     [](TrainingJobSpec& spec) { spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kGPipe; }},
    {"model.size.layers", [](TrainingJobSpec& spec) { spec.model.size->layers *= 2; }},
    {"model.size.tieEmbeddings", [](TrainingJobSpec& spec) { spec.model.size->tieEmbeddings = !spec.model.size->tieEmbeddings; }},
    {"model.size.keyValueHeads", [](TrainingJobSpec& spec) { spec.model.size->keyValueHeads = 2; }},
    {"data.sequenceLength", [](TrainingJobSpec& spec) { spec.data.sequenceLength *= 2; }},
    {"training.globalBatchSize", [](TrainingJobSpec& spec) { spec.training.globalBatchSize /= 4; }},
    {"training.loss.zLoss", [](TrainingJobSpec& spec) { spec.training.loss.zLoss = spec.training.loss.zLoss > 0 ? 0 : 0.1; }},
    {"training.precision.compute",  // FP16: of others the loss keeps no logits, and zLoss is of no matter
     [](TrainingJobSpec& spec) { spec.training.precision.compute = contract::ComputePrecision::kFP16; }},
    {"training.precision.optimizerStates",
     [](TrainingJobSpec& spec) { spec.training.precision.optimizerStates = contract::OptimizerStates::kBF16; }},
    {"training.activationCheckpointing.mode",
     [](TrainingJobSpec& spec) { spec.training.activationCheckpointing.mode = contract::RecomputeMode::kFull; }},
    {"training.reduction", [](TrainingJobSpec& spec) { spec.training.reduction = contract::Reduction::kCanonical; }},
});

/// Any of them may be changed in it, or not.
TrainingJobSpec draw_layout(Draw& draw) {
  TrainingJobSpec spec = test::make_job("a", 2, 4).spec;
  spec.data.sequenceLength = 128;
  spec.training.globalBatchSize = 64;
  spec.training.optimizer.beta2 = 0.95;  // as low as states in BF16 want it
  for (const auto& field : kLayoutFields) {
    if (draw(0, 2) == 0) field.change(spec);
  }
  return spec;
}

/// What the jobs of a sweep differ in, and whatever else has no say in what ranks keep on a GPU.
void draw_the_rest(Draw& draw, TrainingJobSpec& spec) {
  spec.queue = "queue-" + std::to_string(draw(0, 9));
  spec.priorityClassName = "class-" + std::to_string(draw(0, 9));
  spec.lifecycle.activeDeadlineSeconds = draw(1, 1'000);
  spec.workers.spares = draw(0, 1);
  if (draw(0, 1) == 1) spec.workers.minCount = 1;
  spec.workers.threadsPerProcess = draw(1, 8);
  spec.workers.templ["spec"]["nodeSelector"]["kind"] = std::to_string(draw(0, 9));
  spec.placement.pack = contract::Pack{.level = "rack"};
  spec.data.train = {contract::Source{.path = "/data/" + std::to_string(draw(0, 9)), .weight = 1.0 + draw(0, 9)}};
  spec.data.validation = {contract::Source{.path = "/held-out"}};
  spec.evaluation = contract::Evaluation{.everySteps = draw(1, 9)};
  spec.checkpoint = contract::Checkpoint{.path = "/checkpoints/" + std::to_string(draw(0, 9))};
  spec.metrics = contract::MetricFiles{.path = "/metrics/" + std::to_string(draw(0, 9))};
  spec.training.steps = draw(100, 1'000);
  spec.training.seed = draw(0, 1'000'000);
  spec.training.dropout = 0.01 * draw(0, 9);
  spec.training.optimizer.learningRate = 1e-4 * draw(1, 9);
  spec.training.optimizer.weightDecay = 0.01 * draw(0, 9);
  spec.training.learningRateSchedule.warmupSteps = draw(0, 99);
  spec.training.gradientClipping = contract::GradientClipping{.maxNorm = 1.0 * draw(1, 9)};
}

TEST(ADeviceNeed, IsThatOfTheStatusAndTheSameForAllJobsOfALayout) {
  int num_valid = 0;
  for (unsigned seed = 0; seed < 2'000; ++seed) {
    Draw draw(seed);
    const TrainingJobSpec spec = draw_layout(draw);
    TrainingJobSpec other = spec;
    draw_the_rest(draw, other);
    ASSERT_EQ(contract::validate(other).empty(), contract::validate(spec).empty())
        << seed << contract::to_text(contract::validate(other));
    const auto need = device_need(spec);
    EXPECT_EQ(device_need(other), need) << seed;
    EXPECT_EQ(layout_key(other), layout_key(spec)) << seed;
    const auto told = memory_status(other);
    ASSERT_EQ(need.has_value(), told.has_value()) << seed;
    if (!need) continue;
    ++num_valid;
    EXPECT_EQ(need->bytes, told->total + kBesideTensors) << seed;
    EXPECT_EQ(need->resource, test::kGpu);
  }
  EXPECT_GT(num_valid, 500);
}

TEST(ADeviceNeed, OfALayoutThatDiffersInAnythingThatMattersHasAnotherKey) {
  for (const auto& field : kLayoutFields) {
    int num_others = 0;
    for (unsigned seed = 0; seed < 200; ++seed) {
      Draw draw(seed);
      const TrainingJobSpec spec = draw_layout(draw);
      TrainingJobSpec other = spec;
      field.change(other);
      const auto need = device_need(spec), of_other = device_need(other);
      if (!need || !of_other || *need == *of_other) continue;
      ++num_others;
      EXPECT_NE(layout_key(other), layout_key(spec)) << field.name << " " << seed;
    }
    EXPECT_GT(num_others, 0) << field.name;
  }
}

TEST(ADeviceNeed, IsNobodysOfALayoutThatIsNotValid) {
  TrainingJobSpec spec = test::make_job("a", 1, 8).spec;
  ASSERT_TRUE(device_need(spec));
  spec.parallelism.tensor = 3;
  EXPECT_FALSE(device_need(spec));
  spec = test::make_job("a", 1, 8).spec;
  spec.model.size.reset();
  EXPECT_FALSE(device_need(spec));
}

/// 8 billion parameters, so that with ZeRO's `stage` 0 a rank needs several times as much of its GPU as with 3.
Job large(const std::string& name, int workers, int stage) {
  Job job = test::make_job(name, workers, 8);
  auto& spec = job.spec;
  spec.model.size = contract::ModelSize{
      .layers = 32, .hiddenSize = 4'096, .heads = 32, .keyValueHeads = 8, .feedForwardSize = 14'336, .vocabularySize = 128'256};
  spec.data.sequenceLength = 4'096;
  spec.training.globalBatchSize = 48;
  spec.parallelism.zero.stage = stage;
  spec.training.activationCheckpointing.mode = contract::RecomputeMode::kFull;
  return job;
}

/// It was accepted, and asked about.
void put_in_line(Cluster& cluster, Job job, int number) {
  job.created = at(number);
  set_condition(job.status, {condition::kAccepted, true, "Accepted", ""}, 1, at(0));
  const auto pod = worker_pod(job, cluster.settings, {.worker = 0, .generation = 1, .node = {}});
  cluster.put_template_check(job.uid, template_hash(job.spec, cluster.settings),
                             {.accepted = true, .needs = read_pod_needs(pod.at("spec"))});
  cluster.put(std::move(job));
}

/// Some nodes of each kind, and of some nobody knows what their GPUs have.
Cluster draw_cluster(Draw& draw) {
  test::ClusterBuilder builder;
  constexpr int kNodes = 6;
  builder.racks(2).nodes_per_rack(kNodes / 2).gpus_per_node(8);
  for (int i = 0; i < kNodes; ++i) {
    const std::string name = "node-" + std::to_string(i);
    const char* mebibytes = draw.one_of({"", "15360", "40960", "81559", "275040"});
    if (*mebibytes != '\0') builder.change(name, [=](Node& node) { node.labels["nvidia.com/gpu.memory"] = mebibytes; });
    if (draw(0, 4) == 0) builder.use(name, 8);
  }
  Cluster cluster = builder.build();
  for (int i = 0; i < 12; ++i) {
    Job job = large("job-" + std::to_string(i), draw(1, 3), draw(0, 3));
    job.spec.training.seed = i;
    if (draw(0, 3) == 0) job.spec.workers.minCount = 1;
    if (draw(0, 3) == 0) job.spec.placement.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
    put_in_line(cluster, std::move(job), i);
  }
  return cluster;
}

TEST(ALookAtTheLine, DecidesAsThoughEachJobsNeedHadBeenReckonedBeforeByItself) {
  int num_pods = 0, num_without_room = 0;
  for (unsigned seed = 0; seed < 150; ++seed) {
    Draw draw(seed);
    const Cluster cluster = draw_cluster(draw);
    const auto plans = schedule(cluster, at(100));
    for (const auto& [key, job] : cluster.jobs()) {
      job.device_needs.forget();
      for (const auto size : gang_sizes(job.spec)) {
        const TrainingJobSpec spec = size == job.spec.workers.count ? job.spec : at_size(job.spec, size);
        job.device_needs.get(size, [&] { return device_need(spec); });
      }
    }
    ASSERT_TRUE(schedule(cluster, at(100)) == plans) << seed;
    for (const auto& [key, plan] : plans) {
      const Job& job = *cluster.job(key);
      std::int32_t pods = 0;
      std::optional<std::int64_t> least;  // of the GPUs that it was given
      for (const auto& phase : plan.phases) {
        for (const auto& action : phase) {
          const auto* create = std::get_if<CreatePod>(&action);
          if (create == nullptr) continue;
          ++pods;
          const Node* node = cluster.node(text_of(member(create->body, "spec"), "nodeName"));
          ASSERT_NE(node, nullptr) << create->body;
          const auto memory = device_memory(*node, test::kGpu);
          if (memory) least = std::min(least.value_or(*memory), *memory);
        }
      }
      num_pods += pods;
      num_without_room += pods == 0;
      if (least) {
        EXPECT_GE(*least, device_need(at_size(job.spec, pods))->bytes) << seed << " " << to_text(key);
      }
    }
  }
  EXPECT_GT(num_pods, 150);
  EXPECT_GT(num_without_room, 150);
}

}  // namespace
}  // namespace trainyard::decide
