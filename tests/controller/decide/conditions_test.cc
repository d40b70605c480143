#include "controller/decide/conditions.h"

#include <gtest/gtest.h>

#include "controller/decide/progress.h"
#include "controller/decide/text_hash.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using contract::TrainingJobStatus;

TEST(SetCondition, KeepsTheTimeWhileTheStatusStays) {
  TrainingJobStatus status;
  set_condition(status, {condition::kPlaced, false, "Unschedulable", "2 missing"}, 1, test::at(0));
  set_condition(status, {condition::kPlaced, false, "NeverFits", "too large"}, 2, test::at(5));
  ASSERT_EQ(status.conditions.size(), 1u);
  EXPECT_EQ(status.conditions[0].lastTransitionTime, "2026-01-01T00:00:00Z");
  EXPECT_EQ(status.conditions[0].reason, "NeverFits");
  EXPECT_EQ(status.conditions[0].observedGeneration, 2);
  set_condition(status, {condition::kPlaced, true, "Placed", ""}, 2, test::at(7));
  EXPECT_EQ(status.conditions[0].lastTransitionTime, "2026-01-01T00:00:07Z");
  EXPECT_EQ(since_of(status, condition::kPlaced), test::at(7));
}

TEST(SetCondition, KeepsToTheBoundsOfTheSchemaWhateverItIsGiven) {
  TrainingJobStatus status;
  set_condition(status, {condition::kFailed, true, "not a word: " + std::string(2'000, 'x'), std::string(40'000, 'y')}, 1,
                test::at(0));
  EXPECT_EQ(status.conditions[0].reason.substr(0, 10), "notawordxx");
  EXPECT_EQ(status.conditions[0].reason.size(), 1'024u);
  EXPECT_EQ(status.conditions[0].message.size(), 32'768u);
  std::string umlauts;
  for (int i = 0; i < 20'000; ++i) umlauts += "\u00e4";
  set_condition(status, {condition::kFailed, true, "", umlauts}, 1, test::at(0));
  EXPECT_EQ(status.conditions[0].reason, "Unknown");
  EXPECT_NO_THROW(contract::Json(status.conditions[0].message).dump());  // no torn character
}

TEST(Conditions, ThatAreNotThereAreNeitherTrueNorFalse) {
  const TrainingJobStatus status;
  EXPECT_FALSE(is_true(status, condition::kRunning));
  EXPECT_FALSE(is_false(status, condition::kRunning));
  EXPECT_EQ(reason_of(status, condition::kRunning), "");
}

/// Every combination of the conditions that count.
TEST(ThePhase, FollowsFromTheConditions) {
  for (int bits = 0; bits < 64; ++bits) {
    const bool failed = bits & 1, complete = bits & 2, suspended = bits & 4, running = bits & 8, restarting = bits & 16,
               placed = bits & 32;
    TrainingJobStatus status;
    const auto set = [&status](const char* type, bool value, const char* why) {
      set_condition(status, {type, value, why, ""}, 1, test::at(0));
    };
    if (failed) set(condition::kFailed, true, "x");
    if (complete) set(condition::kComplete, true, "x");
    set(condition::kSuspended, suspended, "x");
    set(condition::kRunning, running, "x");
    set(condition::kProgressing, false, restarting ? reason::kRestarting : "Starting");
    set(condition::kPlaced, placed, "x");
    const Phase expected = failed       ? Phase::kFailed
                           : complete   ? Phase::kSucceeded
                           : suspended  ? Phase::kSuspended
                           : running    ? Phase::kRunning
                           : restarting ? Phase::kRestarting
                           : placed     ? Phase::kStarting
                                        : Phase::kPending;
    EXPECT_EQ(phase_of(status), expected) << bits;
    EXPECT_EQ(is_finished(status), failed || complete) << bits;
  }
}

TEST(ThePhase, IsRunningWhileAJobThatTrainsIsBeingSuspended) {
  for (const bool trains : {true, false}) {
    TrainingJobStatus status;
    set_condition(status, {condition::kPlaced, true, reason::kGangPlaced, ""}, 1, test::at(0));
    set_condition(status, {condition::kProgressing, trains, trains ? "Training" : "Starting", ""}, 1, test::at(0));
    set_condition(status, {condition::kRunning, false, reason::kSuspending, ""}, 1, test::at(0));
    EXPECT_EQ(phase_of(status), trains ? Phase::kRunning : Phase::kStarting);
  }
}

TEST(Rounded, KeepsSixSignificantDigits) {
  EXPECT_EQ(rounded(3.333333333), 3.33333);
  EXPECT_EQ(rounded(0.0000123456789), 0.0000123457);
  EXPECT_EQ(rounded(-123456789.0), -123457000.0);
  EXPECT_EQ(rounded(0.0), 0.0);
  EXPECT_EQ(rounded(rounded(2.0 / 3)), rounded(2.0 / 3));
}

TEST(TextHash, IsThatOfFnv1a) {
  EXPECT_EQ(text_hash(""), "cbf29ce484222325");
  EXPECT_EQ(text_hash("a"), "af63dc4c8601ec8c");
  EXPECT_EQ(text_hash("foobar"), "85944171f73967e8");
}

}  // namespace
}  // namespace trainyard::decide
