#include "controller/decide/memory_fit.h"

#include <set>

#include <gtest/gtest.h>

#include "controller/decide/traffic.h"
#include "crds/contract/validate.h"
#include "tests/controller/decide/a_world.h"
#include "worker/plan/cost.h"

namespace trainyard::decide {
namespace {

using contract::ConditionStatus;
using test::ClusterBuilder;
using test::make_job;
using test::World;

/// Llama 3 8B on `workers` of 8 GPUs each, whose ranks keep all 18 bytes a parameter, and 4 of the embedding while they reduce that: 136.6 GiB.
Job large(const std::string& name, int workers = 1) {
  Job job = make_job(name, workers, 8);
  auto& spec = job.spec;
  spec.model.size = contract::ModelSize{
      .layers = 32, .hiddenSize = 4096, .heads = 32, .keyValueHeads = 8, .feedForwardSize = 14336, .vocabularySize = 128256};
  spec.data.sequenceLength = 4096;
  spec.training.globalBatchSize = 8 * workers;
  return job;
}
void set_memory(Job& job, const char* kind, const char* amount) {
  Json& container = job.spec.workers.templ["spec"]["containers"][0];
  container["name"] = "worker";
  container["resources"][kind]["memory"] = amount;
}
ClusterBuilder nodes(int number = 4) {
  return ClusterBuilder{}.racks(2).nodes_per_rack(number / 2).gpus_per_node(8).gpu_model("NVIDIA-H100-80GB-HBM3", 81559);
}

/// Empty where the words are not there.
std::string word_after(std::string_view words, const std::string& text) {
  const auto at = text.find(words);
  if (at == std::string::npos) return "";
  const auto begin = at + words.size();
  return text.substr(begin, text.find(' ', begin) - begin);
}

TEST(Memory, ThatIsTooSmallIsSaidBeforeAPodIsMadeWithTheNearestLayoutThatFits) {
  World world(nodes().build());
  world.add(large("a"));
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  const auto accepted = world.condition("Accepted");
  EXPECT_EQ(accepted.status, ConditionStatus::kFalse);
  EXPECT_EQ(accepted.reason, "DoesNotFit");
  EXPECT_EQ(accepted.message.find("a rank needs at least 137."), 0u) << accepted.message;
  for (const char* part :
       {"parameters 14.9 GiB", "masters 29.9 GiB", "gradients 31.8 GiB", "optimizer 59.8 GiB", "1 GiB for CUDA",
        "the largest GPUs of the nodes that it may run on have 79.6 GiB by the label nvidia.com/gpu.memory",
        "The nearest layout that fits: parallelism.zero.stage "}) {
    EXPECT_NE(accepted.message.find(part), std::string::npos) << accepted.message;
  }
}

TEST(Memory, OfASpecThatIsAbsurdAsAWholeIsNotReckonedWithAndTheSpecRefused) {
  World world(nodes().build());
  Job job = large("a");
  job.spec.parallelism.microBatchSize = 1'000'000;
  job.spec.data.sequenceLength = 10'000'000;
  job.spec.training.globalBatchSize = 8'000'000;
  ASSERT_TRUE(contract::validate(job.spec).empty()) << contract::to_text(contract::validate(job.spec));
  EXPECT_FALSE(memory_status(job.spec));
  EXPECT_TRUE(links_of(job.spec).empty());
  world.add(job);
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  EXPECT_EQ(world.condition("Accepted").reason, "InvalidSpec");
  EXPECT_NE(world.condition("Accepted").message.find("spec: asks for more in a step than can be reckoned with"),
            std::string::npos)
      << world.condition("Accepted").message;
}

TEST(Memory, IsEnoughForTheLayoutThatItSaysIsTheNearest) {
  World world(nodes().build());
  Job job = large("a");
  const std::string words = LayoutQuestion(world.cluster, job, {}).answer();
  const std::string before = "The nearest layout that fits: parallelism.zero.stage ";
  ASSERT_EQ(words.find(before), 0u) << words;
  job.spec.parallelism.zero.stage = words.at(before.size()) - '0';
  world.add(job);
  world.settle();
  EXPECT_EQ(world.pods().size(), 1u);
}

TEST(Memory, IsThatOfANodeAlsoWhileItsDevicePluginIsAway) {
  auto cluster = nodes(2).build();
  auto small = *cluster.node("node-0");
  small.labels["nvidia.com/gpu.memory"] = "15360";
  cluster.put(small);
  auto away = *cluster.node("node-1");
  away.labels["nvidia.com/gpu.memory"] = "1000000";
  away.allocatable.set("nvidia.com/gpu", 0);
  cluster.put(away);
  EXPECT_EQ(memory_shortage(cluster, large("a"), {}), "");
  away.labels["nvidia.com/gpu.memory"] = "15360";
  cluster.put(away);
  EXPECT_NE(memory_shortage(cluster, large("a"), {}), "");
}

TEST(Memory, OfGpusThatNobodyKnowsStopsNoJobAndTheStatusSaysSo) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(large("a"));
  world.settle();
  EXPECT_EQ(world.pods().size(), 1u);
  const auto& place = world.status().placement.value();
  EXPECT_FALSE(place.memoryPerRank->device);
  EXPECT_EQ(place.unknown.value_or(""),
            "whether a rank's memory is enough: node node-0 has no label nvidia.com/gpu.memory; "
            "how fast it can be: node node-0 has no label nvidia.com/gpu.product");
  EXPECT_FALSE(place.estimate);
}

TEST(Memory, ThatAJobThatWaitsNeedsIsReckonedOnceForItsSpecAndNotInEachLook) {
  auto builder = nodes();
  builder.change("node-1", [](Node& node) { node.labels["nvidia.com/gpu.memory"] = "275040"; }).use("node-1", 8, "b");
  World world(builder.build());
  world.add(large("a"));
  world.settle();
  ASSERT_EQ(world.condition("Placed").reason, "Unschedulable") << "what is free is too small";
  const auto need = [&] { return world.job().device_needs.get(1, [] { return std::optional<DeviceNeed>(); }); };
  EXPECT_EQ(need(), device_need(world.job().spec).value());
  world.cluster.put(Job(world.job()));
  EXPECT_TRUE(need()) << "its status was written";
  Job edited = world.job();
  edited.spec.data.sequenceLength = 2048;
  world.cluster.put(edited);
  EXPECT_FALSE(need());
  world.job().device_needs.forget();
  world.cluster.erase_pod({"default", "taken-0"});
  world.settle();
  ASSERT_EQ(world.pods().size(), 1u);
  EXPECT_EQ(world.pod(0).node, "node-1");
}

TEST(Memory, OfOneNodeThatDoesNotTellMayBeEnough) {
  World world(nodes().change("node-2", [](Node& node) { node.labels.erase("nvidia.com/gpu.memory"); }).build());
  world.add(large("a"));
  world.settle();
  ASSERT_EQ(world.pods().size(), 1u);
  EXPECT_EQ(world.pod(0).node, "node-2") << "the others' is known to be too small";
}

TEST(Memory, OfSmallerGpusIsLeftAloneWhereOthersAreLarger) {
  auto builder = nodes();
  for (const char* large_node : {"node-1", "node-3"}) {
    builder.change(large_node, [](Node& node) { node.labels["nvidia.com/gpu.memory"] = "275040"; });
  }
  World world(builder.build());
  world.add(large("a", 2));
  world.settle();
  ASSERT_EQ(world.pods().size(), 2u);
  EXPECT_EQ((std::set{world.pod(0).node, world.pod(1).node}), (std::set<std::string>{"node-1", "node-3"}));
  world.add(large("b", 4));
  world.settle();
  const auto placed = world.condition("Placed", "b");
  EXPECT_EQ(placed.reason, "NeverFits");
  EXPECT_NE(placed.message.find("the whole cluster would hold 2 if it were empty. 2 nodes have GPUs with less than the 1"),
            std::string::npos)
      << placed.message;
}

TEST(Memory, IsLookedAtAgainWhenTheClusterChanges) {
  World world(nodes().build());
  world.add(large("a"));
  world.settle();
  ASSERT_TRUE(world.pods().empty());
  world.change_node("node-1", [](Node& node) { node.labels["nvidia.com/gpu.memory"] = "275040"; });
  world.settle();
  EXPECT_EQ(world.pods().size(), 1u);
  EXPECT_EQ(world.condition("Accepted").status, ConditionStatus::kTrue);
}

TEST(Memory, OfAJobThatHasTrainedIsKnownToBeEnough) {
  World world(nodes().change("node-0", [](Node& node) { node.labels["nvidia.com/gpu.memory"] = "275040"; }).build());
  world.add(large("a"));
  world.settle();
  ASSERT_EQ(world.pod(0).node, "node-0");
  world.train(1);
  world.settle();
  world.change_node("node-0", [](Node& node) { node.labels["nvidia.com/gpu.memory"] = "81559"; });
  world.change_pod(world.pod(0).key.name, [](Pod& pod) { pod.phase = PodPhase::kFailed; });
  world.settle();
  world.pass(60);
  EXPECT_EQ(world.pods().size(), 1u) << world.condition("Accepted").message << world.condition("Placed").message;
}

TEST(Memory, OfTheHostHasToBeWithinTheLimitWhereSomethingIsOffloaded) {
  World world(nodes().change("node-3", [](Node& node) { node.allocatable.set("memory", std::int64_t{2} << 40); }).build());
  Job job = large("a");
  job.spec.parallelism.zero = {.stage = 1, .offload = {.optimizer = true}};
  set_memory(job, "requests", "32Gi");
  set_memory(job, "limits", "32Gi");
  world.add(job);
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  const auto accepted = world.condition("Accepted");
  EXPECT_EQ(accepted.reason, "DoesNotFit");
  EXPECT_EQ(accepted.message.find("the 8 ranks of a worker keep "), 0u) << accepted.message;
  EXPECT_NE(accepted.message.find("and spec.workers.template limits them to 32 GiB"), std::string::npos) << accepted.message;
  const std::string amount = word_after("The nearest layout that fits: a memory request of ", accepted.message);
  ASSERT_NE(amount, "") << accepted.message;
  set_memory(job, "requests", amount.c_str());
  set_memory(job, "limits", amount.c_str());
  job.key.name = "b";
  job.uid = "uid-b";
  world.add(job);
  world.settle();
  EXPECT_EQ(world.pods("b").size(), 1u) << amount;
  EXPECT_EQ(world.condition("Accepted", "b").message, "the spec and its template can be run");
}

TEST(Memory, OfTheHostThatIsNotAskedForStopsNoJobButIsSaid) {
  for (const char* asked : {"", "32Gi"}) {
    World world(nodes().build());
    Job job = large("a");
    job.spec.parallelism.zero = {.stage = 3, .offload = {.parameters = true, .optimizer = true}};
    job.spec.training.activationCheckpointing.mode = contract::RecomputeMode::kFull;
    if (*asked != '\0') set_memory(job, "requests", asked);
    world.add(job);
    world.settle();
    EXPECT_EQ(world.pods().size(), 1u);
    const auto accepted = world.condition("Accepted");
    EXPECT_EQ(accepted.status, ConditionStatus::kTrue);
    EXPECT_EQ(accepted.message.find("the spec and its template can be run; but the 8 ranks of a worker keep "), 0u)
        << accepted.message;
    const std::string words = *asked == '\0' ? "spec.workers.template asks for none" : "spec.workers.template asks for 32 GiB";
    EXPECT_NE(accepted.message.find(words), std::string::npos) << accepted.message;
  }
}

TEST(Memory, LimitIsThatOfTheContainerThatTrains) {
  Job job = large("a");
  job.spec.parallelism.zero = {.stage = 1, .offload = {.optimizer = true}};
  const PodNeeds needs{.requests = {{"memory", std::int64_t{1} << 40}}};
  const Cluster cluster = nodes().build();
  EXPECT_EQ(memory_shortage(cluster, job, needs), "");
  job.spec.workers.templ["spec"]["containers"][0]["resources"]["limits"]["memory"] = "16Gi";
  EXPECT_NE(memory_shortage(cluster, job, needs).find("limits them to 16 GiB"), std::string::npos);
}

TEST(Memory, IsThatOfTheNodesOfItsQueuesFlavorsAndOfItsTemplatesSelector) {
  auto builder = nodes();
  builder.change("node-3", [](Node& node) {
    node.labels["nvidia.com/gpu.memory"] = "275040";
    node.labels["gpu"] = "large";
  });
  Cluster cluster = builder.build();
  Job job = large("a");
  EXPECT_EQ(memory_shortage(cluster, job, {}), "");
  EXPECT_NE(memory_shortage(cluster, job, {.rules = {.selector = {{"topology.test/rack", "rack-0"}}}}), "");
  EXPECT_EQ(memory_shortage(cluster, job, {.rules = {.selector = {{"topology.test/rack", "rack-1"}}}}), "");
  EXPECT_EQ(memory_shortage(cluster, job, {.rules = {.selector = {{"no", "node"}}}}), "") << "that is said otherwise";
  const auto flavor = [](const char* label) { return Flavor{.labels = {{"gpu", label}}, .resources = {}}; };
  cluster.put(Queue{.name = "org", .uid = "1", .resource_version = "1", .flavors = {flavor("small")}});
  cluster.put(Queue{.name = "team", .uid = "2", .resource_version = "1", .parent = "org"});
  job.spec.queue = "team";
  for (const char* name : {"node-0", "node-1"}) {
    Node node = *cluster.node(name);
    node.labels["gpu"] = "small";
    cluster.put(node);
  }
  EXPECT_NE(memory_shortage(cluster, job, {}), "") << "the flavors of the queue above";
  cluster.put(Queue{.name = "org", .uid = "1", .resource_version = "1", .flavors = {flavor("small"), flavor("large")}});
  EXPECT_EQ(memory_shortage(cluster, job, {}), "");
}

/// Some 2.5 GiB of tensors a rank, on CPUs.
Job on_cpus(const std::string& name, int workers = 2, int ranks = 1) {
  Job job = make_job(name, workers);
  auto& spec = job.spec;
  spec.workers.processesPerWorker = ranks;
  spec.model.size =
      contract::ModelSize{.layers = 12, .hiddenSize = 768, .heads = 12, .feedForwardSize = 2048, .vocabularySize = 50'257};
  spec.data.sequenceLength = 256;
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  spec.training.globalBatchSize = workers * ranks;
  spec.checkpoint.reset();
  return job;
}
ClusterBuilder cpu_nodes() {
  return ClusterBuilder{}.nodes_per_rack(2).change("node-0",
                                                   [](Node& node) { node.allocatable.set("memory", std::int64_t{64} << 30); });
}

TEST(MemoryWithoutGpus, BeyondTheLimitIsSaidBeforeAPodIsMadeWithTheNearestLayoutAndTheLimitThatFit) {
  World world(cpu_nodes().build());
  Job job = on_cpus("a", 1, 2);
  set_memory(job, "limits", "5Gi");
  world.add(job);
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  const auto accepted = world.condition("Accepted");
  EXPECT_EQ(accepted.status, ConditionStatus::kFalse);
  EXPECT_EQ(accepted.reason, "DoesNotFit");
  EXPECT_EQ(accepted.message.find(
                "the 2 ranks of a worker have tensors of 5.1 GiB at one moment (of a rank at the most parameters 618"),
            0u)
      << accepted.message;
  for (const char* part :
       {" MiB, gradients 765.7 MiB, optimizer 1.2 GiB",
        "), and spec.workers.template limits them to 5 GiB (resources.limits.memory). The nearest layout that fits: "}) {
    EXPECT_NE(accepted.message.find(part), std::string::npos) << part << "\n" << accepted.message;
  }
  const std::string amount = word_after("; this one takes a memory limit of ", accepted.message);
  ASSERT_NE(amount, "") << accepted.message;
  set_memory(job, "limits", amount.c_str());
  job.key.name = "b";
  job.uid = "uid-b";
  world.add(job);
  world.settle();
  EXPECT_EQ(world.pods("b").size(), 1u) << amount;
  EXPECT_EQ(world.condition("Accepted", "b").message, "the spec and its template can be run");
}

TEST(MemoryWithoutGpus, IsEnoughForTheLayoutThatItSaysIsTheNearest) {
  World world(cpu_nodes().build());
  Job job = on_cpus("a", 1, 2);
  set_memory(job, "limits", "5Gi");
  const std::string words = LayoutQuestion(world.cluster, job, {}).answer();
  const std::string before = "The nearest layout that fits: parallelism.zero.stage ";
  ASSERT_EQ(words.find(before), 0u) << words;
  job.spec.parallelism.zero.stage = words.at(before.size()) - '0';
  world.add(job);
  world.settle();
  EXPECT_EQ(world.pods().size(), 1u);
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run");
}

TEST(MemoryWithoutGpus, IsNotJudgedWithoutALimit) {
  World world(cpu_nodes().build());
  Job job = on_cpus("a", 1);
  set_memory(job, "requests", "1Gi");
  set_memory(job, "limits", "0");
  EXPECT_EQ(memory_shortage(world.cluster, job, {}), "") << "which is no limit either";
  EXPECT_EQ(host_memory_doubt(job, {}), "");
  job.spec.workers.templ["spec"]["containers"][0]["resources"].erase("limits");
  world.add(job);
  world.settle();
  EXPECT_EQ(world.pods().size(), 1u);
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run");
}

/// What processes take beside their tensors is not known to the byte, and a pod that would have run is never refused.
TEST(MemoryWithoutGpus, ThatIsEnoughForTensorsAloneStopsNoJobButIsSaid) {
  World world(cpu_nodes().build());
  Job job = on_cpus("a", 1);
  const std::int64_t tensors = plan::bytes_per_rank(job.spec, 0).total();
  set_memory(job, "limits", std::to_string(tensors - 1).c_str());
  EXPECT_NE(memory_shortage(world.cluster, job, {}), "");
  set_memory(job, "limits", std::to_string(tensors).c_str());
  EXPECT_EQ(memory_shortage(world.cluster, job, {}), "");
  world.add(job);
  world.settle();
  EXPECT_EQ(world.pods().size(), 1u);
  const auto accepted = world.condition("Accepted");
  EXPECT_EQ(accepted.status, ConditionStatus::kTrue);
  EXPECT_EQ(accepted.message.find("the spec and its template can be run; but the rank of a worker has tensors of 2."), 0u)
      << accepted.message;
  EXPECT_NE(accepted.message.find(", and take up to 128 MiB more; spec.workers.template limits them to 2."), std::string::npos)
      << accepted.message;
  set_memory(job, "limits", std::to_string(tensors + kBesideTensorsOnCpu).c_str());
  EXPECT_EQ(host_memory_doubt(job, {}), "");
  job.spec.checkpoint = make_job("a").spec.checkpoint;
  ASSERT_TRUE(job.spec.checkpoint);
  EXPECT_NE(host_memory_doubt(job, {}).find("also to write checkpoints from"), std::string::npos) << host_memory_doubt(job, {});
}

TEST(MemoryWithoutGpus, ThatNoLayoutHasIsSaidWithTheLimitThatIsWanted) {
  const Cluster cluster = cpu_nodes().build();
  Job job = on_cpus("a", 1);
  set_memory(job, "limits", "256Mi");
  EXPECT_EQ(LayoutQuestion(cluster, job, {}).answer(),
            "No layout of these ranks was found that fits: it takes a memory limit of 3Gi in workers.template, more workers or a "
            "smaller "
            "model");
}

TEST(Memory, IsNobodysToJudgeOfOtherEnginesAndOfCpusWithoutALimit) {
  const Cluster cluster = nodes().build();
  EXPECT_EQ(memory_shortage(cluster, test::make_custom_job("a", 1, 8), {}), "");
  EXPECT_EQ(memory_shortage(cluster, make_job("a", 1, 0), {}), "");
  Job custom = test::make_custom_job("a", 1);
  set_memory(custom, "limits", "1Ki");
  EXPECT_EQ(memory_shortage(cluster, custom, {}), "");
  EXPECT_FALSE(device_need(test::make_custom_job("a", 1, 8).spec));
  EXPECT_FALSE(device_need(make_job("a", 1, 0).spec));
}

TEST(MemoryStatus, TellsTheHostsMemoryOfTheStageThatTakesMostOfIt) {
  Job job = test::make_job("a", 4, 1);
  auto& spec = job.spec;
  spec.parallelism.pipeline = 4;
  spec.model.size->layers = 8;
  spec.model.size->vocabularySize = 200'000;  // so that the last stage takes most of the device
  spec.training.globalBatchSize = 16;
  spec.training.activationCheckpointing.offload = true;
  const auto first = plan::bytes_per_rank(spec, 0), last = plan::bytes_per_rank(spec, 3);
  ASSERT_GT(last.total(), first.total());
  ASSERT_GT(first.host, last.host) << "it has more micro-batches in flight";
  const auto told = memory_status(spec);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->total, last.total());
  EXPECT_EQ(told->host, first.host);
}

TEST(BytesText, IsShort) {
  EXPECT_EQ(bytes_text(std::int64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(bytes_text(std::int64_t{32} << 30), "32 GiB");
  EXPECT_EQ(bytes_text(5 << 20), "5 MiB");
}

}  // namespace
}  // namespace trainyard::decide
