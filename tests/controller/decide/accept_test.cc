#include "controller/decide/accept.h"

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/pod_template.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::ConditionStatus;
using contract::Phase;
using test::World;

TEST(AJob, WhoseTemplateTheApiServerRefusesIsNotAcceptedAndAskedAboutAgainLater) {
  World world = a_world();
  world.templates_are_accepted = false;
  world.settle();
  EXPECT_TRUE(is(world, "Accepted", ConditionStatus::kFalse));
  EXPECT_EQ(world.condition("Accepted").reason, "TemplateRefused");
  EXPECT_NE(world.condition("Accepted").message.find(world.template_refusal), std::string::npos);
  EXPECT_EQ(world.status().phase, Phase::kPending);
  EXPECT_TRUE(world.pods().empty());
  EXPECT_TRUE(world.has_event("TemplateRefused"));
  world.templates_are_accepted = true;
  world.pass(59);
  EXPECT_TRUE(is(world, "Accepted", ConditionStatus::kFalse)) << "no hot loop";
  world.pass(1);
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AJob, WhosePodsAWebhookGatesIsToldThatBindingDirectCannotHoldThat) {
  for (const auto binding : {contract::Binding::kDirect, contract::Binding::kScheduler}) {
    World world = a_world();
    world.admit_pod = [](Json& pod) { pod["spec"]["schedulingGates"] = {{{"name", "queue"}}}; };
    world.edit("a", [binding](contract::TrainingJobSpec& spec) { spec.placement.binding = binding; });
    world.settle();
    if (binding == contract::Binding::kScheduler) {
      EXPECT_EQ(world.pods().size(), 2u);
      continue;
    }
    EXPECT_EQ(world.condition("Accepted").reason, "TemplateRefused");
    EXPECT_EQ(world.condition("Accepted").message,
              "an admission webhook adds to a pod of spec.workers.template what placement.binding Direct can't hold:\n"
              "spec.workers.template.spec.schedulingGates: is not checked by placement.binding Direct; set placement.binding: "
              "Scheduler, or leave it out\n");
    EXPECT_TRUE(world.pods().empty());
  }
}

TEST(AJob, ThatIsNewHasItsStatusWrittenOnceItIsKnownWhetherThereIsRoom) {
  World world = a_world();
  ASSERT_TRUE(world.decide_once()) << "the dry run of its pod, and room";
  EXPECT_EQ(world.status_writes, 1);
  EXPECT_TRUE(is(world, "Accepted", ConditionStatus::kTrue));
  EXPECT_TRUE(is(world, "Admitted", ConditionStatus::kTrue));
  EXPECT_TRUE(is(world, "Placed", ConditionStatus::kTrue));
  EXPECT_TRUE(world.has_event("Placed"));
}

TEST(AJob, ThatWaitsLongToBeToldOfTheLineHasAStatusMeanwhile) {
  World world = a_world();
  const Job job = world.job();
  const Json pod = worker_pod(job, world.cluster.settings, {.worker = 0, .generation = 1, .node = {}});
  world.cluster.put_template_check(job.uid, template_hash(job.spec, world.cluster.settings),
                                   {.accepted = true, .needs = read_pod_needs(pod.at("spec"))});
  EXPECT_TRUE(plan_job(world.cluster, job.key, job.created + std::chrono::seconds(14)).is_empty())
      << "one write is enough to tell that it is accepted and that it waits";
  const Plan later = plan_job(world.cluster, job.key, job.created + std::chrono::seconds(15));
  ASSERT_FALSE(later.is_empty());
  EXPECT_TRUE(is_true(std::get<WriteStatus>(later.phases[0].at(0)).status, condition::kAccepted));
}

TEST(AJob, WhoseDryRunTakesLongHasAStatusMeanwhile) {
  const World world = a_world();
  const Job& job = world.job();
  const Plan soon = plan_job(world.cluster, job.key, job.created + std::chrono::seconds(1));
  ASSERT_EQ(soon.phases.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<DryRunPod>(soon.phases[0].at(0)));
  EXPECT_EQ(soon.look_again, std::chrono::seconds(1));
  EXPECT_EQ(plan_job(world.cluster, job.key, job.created - std::chrono::hours(1)).phases.size(), 2u) << "a clock that is slow";
  const Plan later = plan_job(world.cluster, job.key, job.created + std::chrono::seconds(2));
  ASSERT_EQ(later.phases.size(), 2u);
  EXPECT_EQ(std::get<WriteStatus>(later.phases[0].at(0)).status.phase, Phase::kPending);
}

TEST(AJob, WithSeveralMistakesHearsOfAllAtOnce) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) {
    spec.placement.pack = contract::Pack{.level = "shelf"};
    spec.workers.templ = Json::parse(R"({"spec": {"restartPolicy": "Always", "hostNetwork": true}})");
  });
  world.settle();
  const auto accepted = world.condition("Accepted");
  EXPECT_EQ(accepted.reason, "InvalidSpec");
  for (const char* word :
       {"shelf", "the levels are those of the chart's value topologyLevels: rack", "restartPolicy", "hostNetwork"}) {
    EXPECT_NE(accepted.message.find(word), std::string::npos) << word << ": " << accepted.message;
  }
  EXPECT_NE(accepted.message.back(), '\n');
}

TEST(AJob, SaysWhenAnEditedTemplateTakesEffect) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.pass(10);
  EXPECT_NE(world.condition("Accepted").message.find("suspended and resumed"), std::string::npos);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
}

TEST(AJob, IsNotSaidToBeEditedWhereTheChartsDefaultImageChanged) {
  World world = a_running_world();
  world.cluster.settings.default_image = "trainyard.test/worker:next";
  world.pass(10);
  const auto message = world.condition("Accepted").message;
  EXPECT_NE(message.find("the chart's default image"), std::string::npos) << message;
  EXPECT_EQ(message.find("workers.template"), std::string::npos) << message;
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.pass(10);
  EXPECT_NE(world.condition("Accepted").message.find("spec.workers.template was changed"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::decide
