// Pods of which no answer says whether they were made.
#include <chrono>
#include <optional>

#include <gtest/gtest.h>

#include "controller/cache/decode.h"
#include "tests/controller/reconcile/performer_fixture.h"

namespace trainyard::reconcile {
namespace {

/// A pod is asked for and the server's answer is `fault`; whoever looks whether it is there is answered by `look`, `looks` times.
struct APodInDoubt : PerformerTest {
  const ObjectKey key{"default", "a-0-1"};
  std::optional<PlanEnded> ended;
  int looked = 0;
  std::chrono::milliseconds asked_at{};

  void ask(Fault fault, Fault look, int looks) {
    asked_at = time.uptime();
    api.fault_of = [this, fault, look, looks](const kube::Request& request) {
      if (request.method == kube::Method::kPost) return request.path.ends_with("/pods") ? fault : Fault::kNone;
      return ++looked <= looks ? look : Fault::kNone;
    };
    performer.perform(kJob, {.phases = {{pod("a-0-1")}}}, [this](PlanEnded how) { ended = how; });
    time.run_for(std::chrono::microseconds(1));
  }
  /// Whether it counted until its plan ended, which it does within that time, and not before `at_least` since it was asked for.
  bool counts_until_the_end(std::chrono::milliseconds at_least, seconds within) {
    const auto end = time.uptime() + within;
    for (; !ended && time.uptime() < end; time.run_for(std::chrono::milliseconds(1))) {
      if (cache.cluster().pod(key) == nullptr) return false;
    }
    return ended.has_value() && time.uptime() >= asked_at + at_least;
  }
};

TEST_F(APodInDoubt, KeepsItsRoomUntilTheServerSaysThatItMadeIt) {
  ask(Fault::kAnswerLost, Fault::kBroken, 3);
  ASSERT_TRUE(counts_until_the_end(std::chrono::milliseconds(1'750), seconds(10)))
      << "it is looked for at once, and after 250, 500, 1000 ms";
  EXPECT_EQ(ended->ended, Ended::kWell);
  ASSERT_NE(cache.cluster().pod(key), nullptr);
  EXPECT_EQ(cache.cluster().pod(key)->uid, cache::uid_of(*api.get(test::kPodsPath, key)));
}

TEST_F(APodInDoubt, GivesItsRoomBackOnceTheServerSaysThatItIsNotThere) {
  for (const Fault fault : {Fault::kLost, Fault::kBroken}) {
    ended.reset();
    looked = 0;
    ask(fault, Fault::kBroken, 2);
    ASSERT_TRUE(counts_until_the_end(std::chrono::milliseconds(750), seconds(10)));
    EXPECT_EQ(ended->ended, Ended::kFailed) << "it is asked for again later";
    EXPECT_EQ(looked, 3);
    EXPECT_EQ(cache.cluster().pod(key), nullptr);
  }
}

TEST_F(APodInDoubt, IsLookedForForAsLongAsTheServerIsAwayAndNotOften) {
  ask(Fault::kLost, Fault::kLost, 1'000'000);
  EXPECT_FALSE(counts_until_the_end(seconds(300), seconds(300)));
  EXPECT_FALSE(ended);
  EXPECT_NE(cache.cluster().pod(key), nullptr);
  EXPECT_GE(looked, 50);
  EXPECT_LE(looked, 70) << "each 5 s";
  performer.stop();
  EXPECT_EQ(cache.cluster().pod(key), nullptr) << "who leads anew reads everything first";
  time.run_for(seconds(60));
  EXPECT_LE(looked, 70);
  EXPECT_EQ(performer.num_requests(), 0u);
}

TEST_F(APodInDoubt, IsGivenUpWhereTheServerWillNotHaveItLookedFor) {
  ask(Fault::kAnswerLost, Fault::kForbidden, 1'000'000);
  ASSERT_TRUE(counts_until_the_end(seconds(30), seconds(60)));
  EXPECT_EQ(ended->ended, Ended::kFailed);
  EXPECT_EQ(looked, 11);
}

TEST_F(APodInDoubt, IsNoneForWhichNoConnectionCameAbout) {
  ask(Fault::kRefused, Fault::kBroken, 1'000'000);
  time.run_for(seconds(1));
  ASSERT_TRUE(ended) << "nothing can have been made";
  EXPECT_EQ(ended->ended, Ended::kFailed);
  EXPECT_EQ(looked, 0);
  EXPECT_EQ(cache.cluster().pod(key), nullptr);
}

TEST_F(APodInDoubt, ThatIsMadeOnlyAfterItWasLookedForIsTakenWhenItIsAskedForAgain) {
  ask(Fault::kLate, Fault::kNone, 0);
  time.run_for(std::chrono::milliseconds(20));
  ASSERT_TRUE(ended) << "the server says that it is not there";
  EXPECT_EQ(ended->ended, Ended::kFailed);
  EXPECT_EQ(cache.cluster().pod(key), nullptr);
  time.run_for(seconds(30));
  ASSERT_NE(api.get(test::kPodsPath, key), nullptr) << "that is what the fault says";
  ended.reset();
  ask(Fault::kNone, Fault::kNone, 0);
  time.run_for(seconds(1));
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->ended, Ended::kWell);
  EXPECT_EQ(api.size(test::kPodsPath), 1u);
  ASSERT_NE(cache.cluster().pod(key), nullptr);
  EXPECT_EQ(cache.cluster().pod(key)->uid, cache::uid_of(*api.get(test::kPodsPath, key)));
}

TEST_F(APodInDoubt, IsNoneThatTheServerRefused) {
  ask(Fault::kTooMany, Fault::kNone, 0);
  time.run_for(seconds(1));
  EXPECT_TRUE(ended);
  EXPECT_EQ(looked, 0);
  EXPECT_EQ(cache.cluster().pod(key), nullptr);
}

}  // namespace
}  // namespace trainyard::reconcile
