// crds/examples/gpt-175b-256gpu.yaml on 32 nodes of 8 GPUs.

#include <set>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/decisions.h"
#include "controller/decide/snapshot.h"
#include "crds/contract/validate.h"
#include "tests/crds/yaml.h"
#include "tests/support/world.h"
#include "worker/plan/cost.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::World;

/// As the controller would read it, without the claims, which are the cluster's.
Job example(const std::string& name = "gpt-175b") {
  auto manifest = contract::read_manifest(crd_test::load("crds/examples/gpt-175b-256gpu.yaml"));
  EXPECT_EQ(to_text(manifest.problems), "");
  Job job = test::make_job(name);
  job.spec = std::move(manifest.spec);
  auto& pod = job.spec.workers.templ["spec"];
  pod.erase("volumes");
  pod["containers"][0].erase("volumeMounts");
  return job;
}

/// 4 racks of 8.
World servers(const std::string& product, int mebibytes) {
  ClusterBuilder builder;
  builder.racks(4).nodes_per_rack(8).gpus_per_node(8).cpus_per_node(96).gpu_model(product, mebibytes);
  for (int i = 0; i < 32; ++i) {
    builder.change("node-" + std::to_string(i), [](Node& node) { node.allocatable.set("memory", std::int64_t{2} << 40); });
  }
  return World(builder.build());
}
World h100() { return servers("NVIDIA-H100-80GB-HBM3", 81559); }

double as_double(std::int64_t number) { return static_cast<double>(number); }

TEST(TheFoundingCase, Has175BillionParametersInTheLayoutThatWasAskedFor) {
  const auto spec = example().spec;
  EXPECT_NEAR(as_double(plan::num_parameters(spec.model.size.value())), 175e9, 0.5e9);
  EXPECT_EQ(contract::world_size(spec), 256);
  EXPECT_EQ(spec.parallelism.tensor, 4);
  EXPECT_EQ(spec.parallelism.pipeline, 2);
  EXPECT_EQ(spec.parallelism.microBatchSize, 4);
  EXPECT_EQ(spec.parallelism.zero, (contract::Zero{.stage = 3, .offload = {.parameters = true, .optimizer = true}}));
}

TEST(TheFoundingCase, IsPlacedOneReplicaANode) {
  World world = h100();
  world.add(example());
  world.settle();
  std::set<std::string> nodes;
  for (int worker = 0; worker < 32; ++worker) nodes.insert(world.pod(worker, "gpt-175b").node);
  EXPECT_EQ(nodes.size(), 32u);
  EXPECT_EQ(world.status("gpt-175b").placement->nodes, 32);
}

TEST(TheFoundingCase, TellsTheMemoryOfARankOnTheGpuAndOnItsHost) {
  World world = h100();
  world.add(example());
  world.settle();
  const auto memory = world.status("gpt-175b").placement->memoryPerRank.value();
  constexpr double kGibibyte = 1 << 30;
  const double mine = 175.2e9 / 8, kept = mine / 32;  // of the parameters: a replica's eighth, of which a 32nd
  // FP32 masters, two moments, gradients, and the weights in BF16.
  EXPECT_NEAR(as_double(memory.host), 18 * kept, 18 * kept * 0.03);
  EXPECT_EQ(memory.master + memory.optimizer, 0);
  EXPECT_GT(memory.gradients, static_cast<std::int64_t>(4 * kept));
  // Inputs of 48 layers of two micro-batches, and what one layer computes again at a time.
  EXPECT_GT(as_double(memory.activations), 2 * 48 * 4.0 * 2048 * 12288 * 2);
  EXPECT_LT(as_double(memory.total), 40 * kGibibyte);
  EXPECT_EQ(memory.total, memory.parameters + memory.gradients + memory.activations);
  EXPECT_EQ(memory.device.value_or(0), std::int64_t{81559} << 20);
}

TEST(TheFoundingCase, TellsTheBytesOfEachLevelAndThoseOfOffloadApart) {
  World world = h100();
  world.add(example());
  world.settle();
  const auto& place = world.status("gpt-175b").placement.value();
  ASSERT_EQ(place.traffic.size(), 2u);
  const auto &racks = place.traffic[0], &nodes = place.traffic[1];
  EXPECT_EQ(racks.level, "rack");
  EXPECT_EQ(nodes.level, "node");
  // For each of 12 micro-batches each data rank gathers two times what the others keep of the weights, and sends its gradients in FP32.
  const double sent = 12 * (2 * 2 + 4) * (175.2e9 / 8) * 31 / 32;
  EXPECT_NEAR(as_double(nodes.bytesPerStep), 256 * sent, 256 * sent * 0.03);
  // Rings in the order of the racks: of 32 links between nodes 4 lie between racks.
  EXPECT_NEAR(as_double(racks.bytesPerStep), as_double(nodes.bytesPerStep) / 8, as_double(nodes.bytesPerStep) / 1000);
  EXPECT_NEAR(nodes.seconds.value_or(0), sent / 50e9, sent / 50e9 * 0.03) << "a network adapter a GPU";
  EXPECT_NEAR(racks.seconds.value_or(0), nodes.seconds.value_or(0) / 8, 0.1);
  // Up for each gathering; the gradients down for each micro-batch, and up for all but the first.
  const double kept = 175.2e9 / 8 / 32, offloaded = (12 * 2 * 2 + 12 * 4 + 11 * 4) * kept;
  EXPECT_NEAR(as_double(place.offloadBytesPerStep.value_or(0)), offloaded, offloaded * 0.03);
}

TEST(TheFoundingCase, TellsTheShareOfThePeakThatItCanUseAtMost) {
  World world = h100();
  world.add(example());
  world.settle();
  const auto estimate = world.status("gpt-175b").placement->estimate.value();
  EXPECT_GT(estimate.mfu, 0.2);
  EXPECT_LT(estimate.mfu, 0.5);
  EXPECT_EQ(estimate.bound, contract::StepBound::kNetwork);
  const auto size = example().spec.model.size.value();
  const double flops = 1536.0 * 2048 * plan::flops_per_token(size, 2048);
  EXPECT_NEAR(estimate.mfu, flops / estimate.stepSeconds / 256 / 989e12, 1e-4);
  EXPECT_NEAR(estimate.tokensPerSecond, 1536 * 2048 / estimate.stepSeconds, estimate.tokensPerSecond / 1e5);
  EXPECT_FALSE(world.status("gpt-175b").placement->unknown);
}

TEST(TheFoundingCase, NeverUsesMoreThanThePeakOfAnyKnownGpuOnAnyScatteredNodes) {
  for (const char* product : {"NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3", "NVIDIA-H200", "NVIDIA-B200"}) {
    World world = servers(product, 183'359);
    world.add(example());
    world.settle();
    const auto& place = world.status("gpt-175b").placement;
    ASSERT_TRUE(place && place->estimate) << product;
    EXPECT_GT(place->estimate->mfu, 0) << product;
    EXPECT_LE(place->estimate->mfu, 1) << product;
  }
}

TEST(TheFoundingCase, WithoutRecomputationIsRefusedAndToldThatRecomputationWouldDo) {
  World world = h100();
  Job job = example();
  job.spec.training.activationCheckpointing.mode = contract::RecomputeMode::kNone;
  world.add(job);
  world.settle();
  EXPECT_TRUE(world.pods("gpt-175b").empty());
  const auto accepted = world.condition("Accepted", "gpt-175b");
  EXPECT_EQ(accepted.reason, "DoesNotFit");
  EXPECT_NE(accepted.message.find("The nearest layout that fits: training.activationCheckpointing.mode Full ("),
            std::string::npos)
      << accepted.message;
  EXPECT_EQ(world.status("gpt-175b").generation, 0);
}

TEST(TheFoundingCase, OnSmallGpusSaysWhatWouldFitAndThatDoes) {
  World world = servers("NVIDIA-A100-SXM4-40GB", 40'960 / 2);
  world.add(example());
  world.settle();
  const auto accepted = world.condition("Accepted", "gpt-175b");
  ASSERT_EQ(accepted.reason, "DoesNotFit") << accepted.message;
  ASSERT_NE(accepted.message.find("The nearest layout that fits: parallelism.sequence true"), std::string::npos)
      << accepted.message;
  Job smaller = example("smaller");
  smaller.spec.parallelism.sequence = true;
  world.add(smaller);
  world.settle();
  EXPECT_EQ(world.pods("smaller").size(), 32u) << world.condition("Accepted", "smaller").message;
}

TEST(TheFoundingCase, NeedsTheMemoryOfItsHosts) {
  World world = h100();
  Job job = example();
  for (const char* kind : {"requests", "limits"}) {
    job.spec.workers.templ["spec"]["containers"][0]["resources"][kind]["memory"] = "64Gi";
  }
  world.add(job);
  world.settle();
  EXPECT_TRUE(world.pods("gpt-175b").empty());
  const auto accepted = world.condition("Accepted", "gpt-175b");
  EXPECT_EQ(accepted.reason, "DoesNotFit");
  EXPECT_EQ(accepted.message.find("the 8 ranks of a worker keep "), 0u) << accepted.message;
  EXPECT_NE(accepted.message.find("a memory request of "), std::string::npos) << accepted.message;
}

TEST(TheFoundingCase, IsTheSameInASnapshotThatWasWrittenAndRead) {
  World world = h100();
  Job question = example();
  question.spec.dryRun = true;
  world.add(question);
  world.settle();
  Job refused = example("refused");
  refused.spec.training.activationCheckpointing.mode = contract::RecomputeMode::kNone;
  world.add(refused);
  const Json ours = decisions(world.cluster, test::at(100));
  ASSERT_TRUE(ours.at("room").contains("default/gpt-175b")) << "the dry run is answered anew";
  const Snapshot read = read_snapshot(Json::parse(to_json(world.cluster, test::at(100)).dump()));
  EXPECT_EQ(hash_of(decisions(read.cluster, read.now)), hash_of(ours));
}

}  // namespace
}  // namespace trainyard::decide
