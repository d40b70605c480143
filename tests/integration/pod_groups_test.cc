// The built trainyard-controller against an API server that has Workload and PodGroup (scheduling.k8s.io/v1beta1).

#include "tests/integration/built_controller.h"

namespace trainyard {
namespace {

const std::string kGroups = "/apis/scheduling.k8s.io/v1beta1/namespaces/default";

struct WithPodGroups : BuiltController {
  static void SetUpTestSuite() {
    install({}, {"--feature-gates=GenericWorkload=true", "--runtime-config=scheduling.k8s.io/v1beta1=true"});
  }
};

TEST_F(WithPodGroups, AGangIsSeenAsOneByOtherToolsAndGoesOnAsEver) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  apply(job("gang", 2, 8));
  const Json pods = eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  const std::string name = pods.at("items").at(0).at("/spec/schedulingGroup/podGroupName"_json_pointer);
  EXPECT_EQ(pods.at("items").at(1).at("/spec/schedulingGroup/podGroupName"_json_pointer), name);
  const Json group = api_.perform({.path = kGroups + "/podgroups/" + name}).body;
  EXPECT_EQ(group.at("/spec/schedulingPolicy/gang/minCount"_json_pointer), 2) << group.dump(1);
  EXPECT_EQ(group.at("/spec/workloadRef"_json_pointer), (Json{{"workloadName", name}, {"templateName", "workers"}}));
  EXPECT_TRUE(group.at("/spec/disruptionMode"_json_pointer).contains("all"));
  const Json workload = api_.perform({.path = kGroups + "/workloads/" + name}).body;
  EXPECT_EQ(workload.at("/spec/controllerRef/name"_json_pointer), "gang") << workload.dump(1);
  EXPECT_EQ(workload.at("/metadata/ownerReferences/0/kind"_json_pointer), "TrainingJob");
  eventually(kJobs + "/gang", [](const Json& object) { return condition(object, "Placed") == "True"; });
}

}  // namespace
}  // namespace trainyard
