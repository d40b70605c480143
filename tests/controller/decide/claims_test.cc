// Claims, as part of jobs' lives: a gang is not placed before its volumes are there.
#include "controller/decide/claims.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Binding;
using test::World;

/// A job, a, that mounts the claims corpus and checkpoints, neither of which is there.
World a_world_without_claims(Binding binding = Binding::kDirect) {
  World world = a_world();
  world.edit("a", [binding](contract::TrainingJobSpec& spec) {
    spec.placement.binding = binding;
    spec.workers.templ = Json::parse(R"({"spec": {"volumes": [
      {"name": "data", "persistentVolumeClaim": {"claimName": "corpus"}},
      {"name": "again", "persistentVolumeClaim": {"claimName": "corpus"}},
      {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "checkpoints"}}]}})");
  });
  return world;
}
void put_claim(World& world, const std::string& name, const std::string& phase) {
  const std::string volume = phase == "Bound" ? "volume-of-" + name : "";
  if (!volume.empty()) world.cluster.put(Volume{.name = volume});
  world.cluster.put(Claim{.key = {"default", name}, .phase = phase, .volume = volume});
}

/// Nodes whose label has one of the values.
Json terms(const std::string& label, const std::vector<std::string>& values) {
  return {{{"matchExpressions", {{{"key", label}, {"operator", "In"}, {"values", values}}}}}};
}

TEST(AJob, WhoseClaimsDoNotExistSaysWhichAndStartsOnceTheyDo) {
  for (const auto binding : {Binding::kDirect, Binding::kScheduler}) {
    World world = a_world_without_claims(binding);
    world.settle();
    EXPECT_EQ(world.condition("Placed").reason, "ClaimMissing");
    EXPECT_EQ(world.condition("Placed").message,
              "PersistentVolumeClaims default/corpus and default/checkpoints, which spec.workers.template mounts, do not exist; "
              "create them in namespace default, or correct the claimName");
    EXPECT_TRUE(world.has_event("ClaimMissing"));
    EXPECT_TRUE(world.pods().empty());
    EXPECT_EQ(world.status().generation, 0);
    put_claim(world, "corpus", "Bound");
    world.settle();
    EXPECT_EQ(world.condition("Placed").reason, "ClaimMissing");
    put_claim(world, "checkpoints", "Bound");
    world.settle();
    EXPECT_EQ(world.pods().size(), 2u);
  }
}

TEST(AJob, WithBindingDirectWaitsForItsClaimsToBeBoundAndSaysWhatMayBeDone) {
  World world = a_world_without_claims();
  put_claim(world, "corpus", "Bound");
  put_claim(world, "checkpoints", "Pending");
  world.settle();
  const auto placed = world.condition("Placed");
  EXPECT_EQ(placed.reason, "ClaimUnbound");
  for (const char* words : {"default/checkpoints", "WaitForFirstConsumer", "placement.binding: Scheduler", "(Pending)"}) {
    EXPECT_NE(placed.message.find(words), std::string::npos) << words << ": " << placed.message;
  }
  EXPECT_EQ(placed.message.find("default/corpus"), std::string::npos) << placed.message;
  EXPECT_TRUE(world.pods().empty());
  put_claim(world, "checkpoints", "Bound");
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AJob, WithBindingSchedulerLeavesItToKubeSchedulerToBindItsClaims) {
  World world = a_world_without_claims(Binding::kScheduler);
  put_claim(world, "corpus", "Pending");
  put_claim(world, "checkpoints", "Pending");
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AJob, DoesNotMountAClaimThatIsBeingDeleted) {
  World world = a_world_without_claims();
  put_claim(world, "corpus", "Bound");
  world.cluster.put(Claim{.key = {"default", "checkpoints"}, .phase = "Bound", .volume = "some", .deleting = true});
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "ClaimMissing");
  EXPECT_NE(world.condition("Placed").message.find("default/checkpoints is being deleted"), std::string::npos);
}

TEST(AJob, IsPlacedWhereItsVolumesCanBeMounted) {
  World world = a_world_without_claims();
  put_claim(world, "corpus", "Bound");
  put_claim(world, "checkpoints", "Bound");
  const std::string label = world.cluster.settings.topology_levels.back().label;
  const std::string rack = world.cluster.nodes().rbegin()->second.labels.at(label);
  world.cluster.put(Volume{.name = "volume-of-corpus", .required_terms = terms(label, {rack})});
  world.settle();
  ASSERT_EQ(world.pods().size(), 2u);
  for (const int worker : {0, 1}) EXPECT_EQ(world.cluster.node(world.pod(worker).node)->labels.at(label), rack);
}

TEST(AJob, WhoseVolumesAreOutOfReachOfEachOtherIsToldSo) {
  World world = a_world_without_claims();
  put_claim(world, "corpus", "Bound");
  put_claim(world, "checkpoints", "Bound");
  const auto& nodes = world.cluster.nodes();
  const std::string first = nodes.begin()->first, last = nodes.rbegin()->first;
  world.cluster.put(Volume{.name = "volume-of-corpus", .required_terms = terms("kubernetes.io/hostname", {first})});
  world.cluster.put(Volume{.name = "volume-of-checkpoints", .required_terms = terms("kubernetes.io/hostname", {last})});
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "NeverFits");
  EXPECT_NE(world.condition("Placed").message.find("4 cannot mount a volume of the template's claims"), std::string::npos)
      << world.condition("Placed").message;
  EXPECT_TRUE(world.pods().empty());
  world.cluster.put(Volume{.name = "volume-of-corpus"});  // made anew, as one that every node reaches
  world.cluster.put(Volume{.name = "volume-of-checkpoints"});
  world.pass(20);
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AJob, WaitsForTheVolumeThatItsClaimIsBoundTo) {
  World world = a_world_without_claims();
  put_claim(world, "corpus", "Bound");
  put_claim(world, "checkpoints", "Bound");
  world.cluster.erase_volume("volume-of-corpus");
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "ClaimMissing");
  EXPECT_EQ(
      world.condition("Placed").message,
      "PersistentVolumeClaim default/corpus is bound to PersistentVolume volume-of-corpus, which does not exist; create the "
      "claim anew");
  world.cluster.put(Volume{.name = "volume-of-corpus"});
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AGang, ThatLostAWorkerAndItsClaimGivesItsOtherNodesBackAfterAWhile) {
  World world = a_world_without_claims();
  put_claim(world, "corpus", "Bound");
  put_claim(world, "checkpoints", "Bound");
  world.settle();
  world.train(5);
  world.settle();
  world.cluster.erase_claim({"default", "checkpoints"});
  world.change_node(world.pod(1).node, [&world](Node& node) {
    node.ready = false;
    node.ready_since = test::at(world.now);
  });
  world.silence(1);
  world.pass(15);
  EXPECT_EQ(world.condition("Placed").reason, "NoReplacement");
  EXPECT_NE(world.condition("Placed").message.find("default/checkpoints"), std::string::npos);
  world.pass(601);
  EXPECT_EQ(world.condition("Placed").reason, "ClaimMissing") << world.condition("Placed").message;
}

}  // namespace
}  // namespace trainyard::decide
