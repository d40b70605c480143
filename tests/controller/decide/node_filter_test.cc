#include "controller/decide/node_filter.h"

#include <gtest/gtest.h>

#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

Node node() { return {.name = "node-0", .labels = {{"gpu", "h100"}, {"cores", "64"}}, .ready = true}; }
NodeRules rules(const char* pod_spec) { return read_node_rules(Json::parse(pod_spec)); }
NodeRules affinity(const std::string& term) {
  return read_node_rules(Json::parse(R"({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
    {"nodeSelectorTerms": [)" + term +
                                     "]}}}}"));
}

TEST(NodeFilter, LetsAHealthyNodePass) { EXPECT_EQ(obstacle(node(), {}), std::nullopt); }

TEST(NodeFilter, StopsAtSelectorsThatDoNotMatch) {
  EXPECT_EQ(obstacle(node(), rules(R"({"nodeSelector": {"gpu": "h100"}})")), std::nullopt);
  EXPECT_EQ(obstacle(node(), rules(R"({"nodeSelector": {"gpu": "a100"}})")), Obstacle::kSelector);
  EXPECT_EQ(obstacle(node(), rules(R"({"nodeSelector": {"disk": "ssd"}})")), Obstacle::kSelector);
}

TEST(NodeFilter, KnowsEveryOperatorOfNodeAffinity) {
  const auto passes = [](const std::string& expression) {
    return !obstacle(node(), affinity(R"({"matchExpressions": [)" + expression + "]}"));
  };
  EXPECT_TRUE(passes(R"({"key": "gpu", "operator": "In", "values": ["a100", "h100"]})"));
  EXPECT_FALSE(passes(R"({"key": "gpu", "operator": "NotIn", "values": ["h100"]})"));
  EXPECT_TRUE(passes(R"({"key": "disk", "operator": "NotIn", "values": ["hdd"]})"));
  EXPECT_TRUE(passes(R"({"key": "gpu", "operator": "Exists"})"));
  EXPECT_FALSE(passes(R"({"key": "gpu", "operator": "DoesNotExist"})"));
  EXPECT_TRUE(passes(R"({"key": "cores", "operator": "Gt", "values": ["63"]})"));
  EXPECT_FALSE(passes(R"({"key": "cores", "operator": "Lt", "values": ["64"]})"));
  EXPECT_FALSE(passes(R"({"key": "gpu", "operator": "Gt", "values": ["1"]})"));
  EXPECT_FALSE(passes(R"({"key": "gpu", "operator": "Like", "values": ["h100"]})"));
}

TEST(NodeFilter, OrsTheTermsOfAnAffinityAndMatchesNodesByName) {
  EXPECT_FALSE(obstacle(node(), affinity(R"({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-9"]}]},
    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-0"]}]})")));
  EXPECT_EQ(obstacle(node(), affinity("{}")), Obstacle::kSelector);
}

TEST(NodeFilter, StopsAtTaintsThatAreNotTolerated) {
  Node tainted = node();
  tainted.taints = {{"team", "a", "NoSchedule"}};
  EXPECT_EQ(obstacle(tainted, {}), Obstacle::kTaint);
  EXPECT_EQ(obstacle(tainted, rules(R"({"tolerations": [{"key": "team", "operator": "Equal", "value": "b"}]})")),
            Obstacle::kTaint);
  EXPECT_EQ(obstacle(tainted, rules(R"({"tolerations": [{"key": "team", "value": "a", "effect": "NoExecute"}]})")),
            Obstacle::kTaint);
  EXPECT_EQ(obstacle(tainted, rules(R"({"tolerations": [{"key": "team", "value": "a", "effect": "NoSchedule"}]})")),
            std::nullopt);
  EXPECT_EQ(obstacle(tainted, rules(R"({"tolerations": [{"operator": "Exists"}]})")), std::nullopt);
  tainted.taints = {{"node.kubernetes.io/disk-pressure", "", "NoSchedule"}};
  EXPECT_EQ(obstacle(tainted, {}), Obstacle::kCondition);
  EXPECT_FALSE(is_lasting(Obstacle::kCondition)) << "it may pass";
  tainted.taints = {{"team", "a", "PreferNoSchedule"}};
  EXPECT_EQ(obstacle(tainted, {}), std::nullopt);
}

TEST(NodeFilter, CallsACordonACordonAndAnIllNodeIll) {
  Node cordoned = node();
  cordoned.unschedulable = true;
  cordoned.taints = {{"node.kubernetes.io/unschedulable", "", "NoSchedule"}};
  EXPECT_EQ(obstacle(cordoned, {}), Obstacle::kCordoned);
  Node ill = node();
  ill.ready = false;
  ill.taints = {{"node.kubernetes.io/unreachable", "", "NoSchedule"}};
  EXPECT_EQ(obstacle(ill, {}), Obstacle::kNotReady);
}

TEST(BeyondDirect, NamesAllThatOnlyKubeSchedulerChecks) {
  const auto problems =
      beyond_direct(Json::parse(R"({"resourceClaims": [{}], "schedulingGates": [{}], "topologySpreadConstraints": [{}],
    "affinity": {"podAffinity": {"x": 1}, "podAntiAffinity": {"x": 1}}, "hostNetwork": true,
    "volumes": [{"emptyDir": {}}, {"ephemeral": {}}], "containers": [{"ports": [{"hostPort": 80}]}]})"));
  EXPECT_EQ(problems.size(), 8u);
  for (const auto& problem : problems) EXPECT_NE(problem.message.find("binding: Scheduler"), std::string::npos);
}

TEST(BeyondDirect, LeavesClaimsOfVolumesToTheClaimsThemselvesAndHasNothingAgainstPreferences) {
  EXPECT_TRUE(beyond_direct(Json::parse(R"({"volumes": [{"persistentVolumeClaim": {"claimName": "x"}}], "containers": [{"ports":
    [{"containerPort": 80}]}], "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}})"))
                  .empty());
}

}  // namespace
}  // namespace trainyard::decide
