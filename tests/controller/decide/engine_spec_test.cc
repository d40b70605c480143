#include "controller/decide/engine_spec.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::TrainingJobSpec;

std::string hash_after(const std::function<void(TrainingJobSpec&)>& change) {
  Job job = test::make_job("a", 2, 8);
  change(job.spec);
  return spec_hash(job.spec, 2);
}
std::string unchanged() {
  return hash_after([](TrainingJobSpec&) {});
}

/// A release that gives this spec another name makes every running job look edited: older_status.h has then to know both.
TEST(SpecHash, IsThatOfTheReleasesBefore) { EXPECT_EQ(unchanged(), "sparse-88ac9290dc452f95"); }

TEST(SpecHash, ChangesWithWhatEnginesTake) {
  EXPECT_NE(hash_after([](TrainingJobSpec& spec) { spec.evaluation = contract::Evaluation{.everySteps = 10}; }), unchanged());
  EXPECT_NE(hash_after([](TrainingJobSpec& spec) { spec.checkpoint->everySteps = 20; }), unchanged());
  EXPECT_NE(hash_after([](TrainingJobSpec& spec) { spec.training.dropout = 0.1; }), unchanged());
}

TEST(SpecHash, StaysWhereOnlyTheControllerIsToldSomethingElse) {
  const std::vector<std::function<void(TrainingJobSpec&)>> changes{
      [](TrainingJobSpec& spec) { spec.priorityClassName = "high"; },
      [](TrainingJobSpec& spec) { spec.queue = "research"; },
      [](TrainingJobSpec& spec) { spec.placement.pack = contract::Pack{.level = "rack"}; },
      [](TrainingJobSpec& spec) { spec.workers.minCount = 1; },
      [](TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); },
      [](TrainingJobSpec& spec) { spec.lifecycle.hangTimeoutSeconds = 60; },
      [](TrainingJobSpec& spec) { spec.suspend = true; },
      [](TrainingJobSpec& spec) { spec.training.dropout = 0.0; }};
  for (std::size_t i = 0; i < changes.size(); ++i) EXPECT_EQ(hash_after(changes[i]), unchanged()) << i;
}

TEST(AJob, WhosePriorityChangesIsNotSaidToBeEdited) {
  test::World world = a_running_world();
  world.cluster.put(PriorityClass{.name = "high", .value = 100});
  world.edit("a", [](TrainingJobSpec& spec) { spec.priorityClassName = "high"; });
  world.pass(10);
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run");
}

}  // namespace
}  // namespace trainyard::decide
