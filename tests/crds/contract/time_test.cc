#include "crds/contract/time.h"

#include <gtest/gtest.h>

namespace trainyard::contract {
namespace {

using namespace std::chrono_literals;

constexpr Time kMoment{1767323045s + 678901us};  // 2026-01-02T03:04:05.678901Z

TEST(Time, IsWrittenAsKubernetesWritesIt) {
  EXPECT_EQ(to_rfc3339(kMoment), "2026-01-02T03:04:05Z");
  EXPECT_EQ(to_rfc3339_micro(kMoment), "2026-01-02T03:04:05.678901Z");
  EXPECT_EQ(to_rfc3339(Time{}), "1970-01-01T00:00:00Z");
}

TEST(Time, IsReadBackAsItWasWritten) {
  EXPECT_EQ(parse_rfc3339(to_rfc3339_micro(kMoment)), kMoment);
  EXPECT_EQ(parse_rfc3339(to_rfc3339(kMoment)), kMoment - 678901us);
}

TEST(Time, SurvivesTheRoundTripOnEveryDayOfACentury) {
  for (Time day{}; day < Time{24h * 36525}; day += 24h) ASSERT_EQ(parse_rfc3339(to_rfc3339(day + 86399s)), day + 86399s);
}

TEST(Time, TakesAnOffsetFromUtcIntoAccount) {
  EXPECT_EQ(parse_rfc3339("2026-01-02T05:04:05+02:00"), kMoment - 678901us);
  EXPECT_EQ(parse_rfc3339("2026-01-01T21:34:05.678901-05:30"), kMoment);
}

TEST(Time, TakesFractionsOfAnyLengthAndCutsThemToMicroseconds) {
  EXPECT_EQ(parse_rfc3339("2026-01-02T03:04:05.6Z"), kMoment - 78901us);
  EXPECT_EQ(parse_rfc3339("2026-01-02T03:04:05.678901999Z"), kMoment);
}

TEST(Time, IsNothingWhereTheTextIsNoTime) {
  for (const char* text :
       {"", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "2026-02-30T03:04:05Z", "2026-01-02T24:04:05Z",
        "2026-01-02T03:60:05Z", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05Zulu", "2026-01-02T03:04:05+0200",
        "2026-01-02T03:04:05+02:00 ", "2O26-01-02T03:04:05Z", "2026/01/02T03:04:05Z"}) {
    EXPECT_FALSE(parse_rfc3339(text)) << text;
  }
}

}  // namespace
}  // namespace trainyard::contract
