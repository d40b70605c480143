#include "controller/reconcile/event_teller.h"

#include <gtest/gtest.h>

#include "tests/support/fake_kube_api.h"
#include "tests/support/virtual_time.h"

namespace trainyard::reconcile {
namespace {

using std::chrono::seconds;
using test::Fault;

struct EventTellerTest : testing::Test {
  test::VirtualTime time;
  test::VirtualExecutor executor{time};
  test::FakeKubeApi api{time};
  Observer observer;
  const Writer writer{"the key", "me"};
  std::vector<std::string> settled;
  EventTeller teller{executor, api,
                     writer,   [] { return true; },
                     observer, [this](const decide::Event& event) { settled.push_back(event.name); }};
  int requests = 0;

  void SetUp() override {
    api.fault_of = [this](const kube::Request&) {
      ++requests;
      return away ? Fault::kBroken : Fault::kNone;
    };
  }
  bool away = false;
  static decide::Event event(const std::string& name, const std::string& job_uid = "uid") {
    return {.job = {"default", "a"}, .job_uid = job_uid, .reason = "Told", .message = "told", .name = name};
  }
};

TEST_F(EventTellerTest, SendsAnEventOnceHoweverOftenItIsAskedToWhileItIsUnderWay) {
  away = true;
  for (int i = 0; i < 20; ++i) {
    teller.tell(event("a.1"));
    time.run_for(std::chrono::milliseconds(100));
  }
  EXPECT_LE(requests, 2) << "a try, and another after a second";
  away = false;
  time.run_for(seconds(60));
  EXPECT_EQ(api.size(test::kEvents), 1u);
  EXPECT_EQ(settled, std::vector<std::string>{"a.1"});
}

TEST_F(EventTellerTest, GivesUpAfterSomeTries) {
  away = true;
  teller.tell(event("a.1"));
  time.run_for(seconds(200));
  EXPECT_EQ(requests, EventTeller::kTries);
  EXPECT_EQ(settled, std::vector<std::string>{"a.1"});
}

TEST_F(EventTellerTest, LosesEventsRatherThanHeapThemUp) {
  away = true;
  for (std::size_t i = 0; i < EventTeller::kMostWaiting + 100; ++i) {
    teller.tell(event("a." + std::to_string(i), "uid-" + std::to_string(i)));
  }
  EXPECT_EQ(settled.size(), 100 - EventTeller::kParallel);
  EXPECT_EQ(settled.front(), "a." + std::to_string(EventTeller::kParallel)) << "the oldest of those that wait";
}

TEST_F(EventTellerTest, GivesAJobThatAsksForEventsWithoutEndAFewOfThemAndLeavesOthersAlone) {
  for (int i = 0; i < 1'000; ++i) teller.tell(event("a." + std::to_string(i)));
  teller.tell(event("b.1", "another"));
  time.run_for(seconds(5));
  EXPECT_EQ(api.size(test::kEvents), static_cast<std::size_t>(EventTeller::kBurst) + 1);
  EXPECT_EQ(settled.size(), 1'001u) << "those that are lost are not asked for again";
  time.run_for(EventTeller::kRefill);
  teller.tell(event("a.1000"));
  time.run_for(seconds(5));
  EXPECT_EQ(api.size(test::kEvents), static_cast<std::size_t>(EventTeller::kBurst) + 2);
}

TEST_F(EventTellerTest, SendsNoneWhileItGivesWayAndLosesNone) {
  teller.give_way(true);
  for (int i = 0; i < 10; ++i) teller.tell(event("a." + std::to_string(i)));
  time.run_for(EventTeller::kPatience - seconds(1));
  EXPECT_EQ(requests, 0);
  const std::string told = contract::to_rfc3339(time.now() - (EventTeller::kPatience - seconds(1)));
  teller.give_way(false);
  time.run_for(seconds(1));
  EXPECT_EQ(api.size(test::kEvents), 10u);
  EXPECT_EQ(api.list(test::kEvents).front()->at("firstTimestamp"), told) << "when it happened, not when it was sent";
}

TEST_F(EventTellerTest, SendsThoseThatHaveWaitedLongOneAtATimeWhileItGivesWay) {
  test::VirtualExecutor slow{time, {.low = seconds(1), .high = seconds(1)}};
  EventTeller polite{slow, api, writer, [] { return true; }, observer, [](const decide::Event&) {}};
  polite.give_way(true);
  for (int i = 0; i < 10; ++i) polite.tell(event("a." + std::to_string(i)));
  time.run_for(EventTeller::kPatience + std::chrono::milliseconds(1'500));
  EXPECT_EQ(requests, 1);
  polite.give_way(false);
  time.run_for(std::chrono::milliseconds(1'100));
  EXPECT_EQ(requests, 4) << "at once, beside the one";
  time.run_for(seconds(60));
  EXPECT_EQ(api.size(test::kEvents), 10u);
}

TEST_F(EventTellerTest, SendsNothingAfterItWasStopped) {
  away = true;
  for (int i = 0; i < 10; ++i) teller.tell(event("a." + std::to_string(i)));
  teller.stop();
  time.run_for(seconds(1));
  requests = 0;
  time.run_for(seconds(100));
  EXPECT_EQ(requests, 0);
}

}  // namespace
}  // namespace trainyard::reconcile
