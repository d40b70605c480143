#include "controller/decide/resources.h"

#include <limits>

#include <gtest/gtest.h>

namespace trainyard::decide {
namespace {

using contract::Json;
using contract::Problem;

Resources requests(const char* spec) {
  std::vector<Problem> problems;
  const Resources out = pod_requests(Json::parse(spec), problems);
  EXPECT_TRUE(problems.empty()) << contract::to_text(problems);
  return out;
}

TEST(Resources, AreZeroWhereNothingWasSaid) {
  EXPECT_EQ(Resources{}["cpu"], 0);
  Resources sum{{"cpu", 1}};
  sum += {{"memory", 2}};
  sum -= {{"cpu", 3}};
  EXPECT_EQ(sum["cpu"], -2);
  EXPECT_EQ(sum["memory"], 2);
}

TEST(Resources, SaturateInsteadOfOverflowing) {
  Resources sum{{"memory", std::numeric_limits<std::int64_t>::max()}};
  sum += {{"memory", 1}};
  EXPECT_EQ(sum["memory"], std::numeric_limits<std::int64_t>::max());
}

TEST(Resources, CanBeTakenAwayHoweverFarBelowNothingTheyAre) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  Resources debt{{"memory", -kMost}};
  debt += {{"memory", -kMost}};
  EXPECT_EQ(debt["memory"], -kMost);
  Resources sum;
  sum -= debt;
  EXPECT_EQ(sum["memory"], kMost);
}

TEST(PodRequests, AddUpContainersAndOverheadAndTakeOnePlace) {
  const Resources out = requests(R"({"containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
    {"resources": {"requests": {"cpu": "500m"}}}], "overhead": {"cpu": "250m"}})");
  EXPECT_EQ(out["cpu"], 1750);
  EXPECT_EQ(out["memory"], std::int64_t{1} << 30);
  EXPECT_EQ(out[kPods], 1);
}

TEST(PodRequests, TakeTheLimitWhereNothingIsRequested) {
  EXPECT_EQ(requests(R"({"containers": [{"resources": {"limits": {"nvidia.com/gpu": 8}}}]})")["nvidia.com/gpu"], 8);
}

TEST(PodRequests, CountAnInitContainerOnlyWhereItNeedsMoreThanTheRest) {
  EXPECT_EQ(requests(R"({"initContainers": [{"resources": {"requests": {"cpu": "3"}}}],
    "containers": [{"resources": {"requests": {"cpu": "1"}}}]})")["cpu"],
            3000);
  EXPECT_EQ(requests(R"({"initContainers": [{"resources": {"requests": {"cpu": "1"}}}],
    "containers": [{"resources": {"requests": {"cpu": "2"}}}]})")["cpu"],
            2000);
}

TEST(PodRequests, KeepCountingASidecar) {
  EXPECT_EQ(requests(R"({"initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
    {"resources": {"requests": {"cpu": "4"}}}], "containers": [{"resources": {"requests": {"cpu": "2"}}}]})")["cpu"],
            5000);
}

TEST(PodRequests, NameEveryValueThatIsNoQuantity) {
  std::vector<Problem> problems;
  pod_requests(Json::parse(R"({"containers": [{"resources": {"requests": {"cpu": "100x", "memory": true}}}]})"), problems);
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0].field, "spec.containers[0].resources.requests.cpu");
  EXPECT_NE(problems[0].message.find("100x"), std::string::npos);
}

TEST(PodRequests, OfThePodAsAWholeTakeThePlaceOfItsContainers) {
  const auto whole = requests(R"({"resources": {"requests": {"cpu": "6"}, "limits": {"cpu": "8", "memory": "9Gi"}},
    "containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}], "overhead": {"cpu": "250m"}})");
  EXPECT_EQ(whole["cpu"], 6250);
  EXPECT_EQ(whole["memory"], std::int64_t{1} << 30);
}

}  // namespace
}  // namespace trainyard::decide
