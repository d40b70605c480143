// Statuses that tell what has happened give way to pods that are being made.
#include "controller/decide/conditions.h"
#include "tests/controller/reconcile/performer_fixture.h"

namespace trainyard::reconcile {
namespace {

using std::chrono::milliseconds;

/// Requests take 40 ms, half of it there and half back.
struct WordsTest : PerformerTest {
  test::VirtualExecutor slow{time, {.low = milliseconds(20), .high = milliseconds(20)}};
  Performer patient{slow, api, cache, {"the key", "me"}, [] { return true; }, observer};

  void make_pods(int number) {
    std::vector<std::vector<decide::Action>> phases;
    for (int i = 0; i < number; ++i) phases.push_back({pod("a-" + std::to_string(i) + "-1")});
    patient.perform({"default", "other"}, {.phases = phases}, [](PlanEnded) {});
  }
  decide::WriteStatus word() {
    auto out = status(0);
    out.status.phase = contract::Phase::kRunning;
    return out;
  }
  void tell(bool& is_told) { tell(word(), is_told); }
  void tell(const decide::WriteStatus& write, bool& is_told) {
    patient.perform(kJob, {.phases = {{write}}}, [&is_told](PlanEnded) { is_told = true; });
  }
  contract::Phase phase() { return cache.cluster().job(kJob)->status.phase; }
};

TEST_F(WordsTest, WaitUntilThePodsAreMadeAndTheirStartHasBegun) {
  bool is_told = false;
  make_pods(1);
  tell(is_told);
  time.run_for(milliseconds(50));
  EXPECT_EQ(written, std::vector<std::string>{"/api/v1/namespaces/default/pods"});
  EXPECT_EQ(patient.num_requests(), 1u);
  time.run_for(milliseconds(40) + HeldWords::kStart);
  EXPECT_EQ(written.size(), 2u);
  EXPECT_TRUE(is_told);
  EXPECT_EQ(patient.num_requests(), 0u);
}

TEST_F(WordsTest, WaitNoLongerThanTheirTimeThoughMorePodsAreMade) {
  bool is_told = false;
  make_pods(10);
  tell(is_told);
  time.run_for(HeldWords::kYield - milliseconds(1));
  EXPECT_EQ(phase(), contract::Phase::kPending);
  time.run_for(milliseconds(42));
  EXPECT_TRUE(is_told);
  EXPECT_LT(api.size(test::kPodsPath), 5u);
}

TEST_F(WordsTest, GoOutAtOnceWhereNoPodsAreMade) {
  bool is_told = false;
  tell(is_told);
  time.run_for(milliseconds(41));
  EXPECT_TRUE(is_told);
}

TEST_F(WordsTest, OfThePlanThatMakesThePodsGoOutAtOnce) {
  make_pods(1);
  bool is_told = false;
  patient.perform(kJob, {.phases = {{status(1)}, {pod("a-7-1")}}}, [&is_told](PlanEnded) { is_told = true; });
  time.run_for(milliseconds(81));
  EXPECT_TRUE(is_told);
}

TEST_F(WordsTest, ThatSomebodyActsOnGoOutAtOnce) {
  bool is_told = false;
  make_pods(1);
  auto stops = word();
  stops.status.conditions.push_back(
      {.type = "Running", .status = contract::ConditionStatus::kTrue, .reason = decide::reason::kPreempting});
  tell(stops, is_told);
  time.run_for(milliseconds(41));
  EXPECT_TRUE(is_told);
}

TEST_F(WordsTest, ForWhichAssignmentsWaitGoOutAtOnce) {
  bool is_told = false;
  make_pods(1);
  auto placed = word();
  placed.status.phase = contract::Phase::kStarting;
  tell(placed, is_told);
  time.run_for(milliseconds(41));
  EXPECT_TRUE(is_told);
}

TEST_F(WordsTest, AreForgottenByWhoStops) {
  bool is_told = false;
  make_pods(1);
  tell(is_told);
  time.run_for(milliseconds(10));
  patient.stop();
  time.run_for(seconds(1));
  EXPECT_EQ(patient.num_requests(), 0u);
  EXPECT_FALSE(is_told);
  EXPECT_EQ(phase(), contract::Phase::kPending);
  tell(is_told);
  time.run_for(milliseconds(41));
  EXPECT_TRUE(is_told) << "no pods of an earlier term are waited for";
}

}  // namespace
}  // namespace trainyard::reconcile
