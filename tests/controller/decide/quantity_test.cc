#include "controller/decide/quantity.h"

#include <limits>

#include <gtest/gtest.h>

namespace trainyard::decide {
namespace {

TEST(Quantity, CountsCpuInThousandthsAndAllElseInUnits) {
  EXPECT_EQ(parse_quantity("cpu", "1"), 1000);
  EXPECT_EQ(parse_quantity("cpu", "500m"), 500);
  EXPECT_EQ(parse_quantity("cpu", "0.25"), 250);
  EXPECT_EQ(parse_quantity("cpu", "2e3"), 2'000'000);
  EXPECT_EQ(parse_quantity("nvidia.com/gpu", "8"), 8);
  EXPECT_EQ(parse_quantity("memory", "1Gi"), std::int64_t{1} << 30);
  EXPECT_EQ(parse_quantity("memory", "1.5Gi"), std::int64_t{3} << 29);
  EXPECT_EQ(parse_quantity("memory", "12M"), 12'000'000);
  EXPECT_EQ(parse_quantity("memory", "+5k"), 5'000);
  EXPECT_EQ(parse_quantity("memory", "-5k"), -5'000);
}

TEST(Quantity, RoundsUpAsTheSchedulerDoes) {
  EXPECT_EQ(parse_quantity("cpu", "1u"), 1);
  EXPECT_EQ(parse_quantity("memory", "1500m"), 2);
  EXPECT_EQ(parse_quantity("memory", "0.1"), 1);
  EXPECT_EQ(parse_quantity("memory", "0"), 0);
  EXPECT_EQ(parse_quantity("memory", "0.000000000000000000000000000000000000000000001"), 1);
}

TEST(Quantity, SaturatesInsteadOfOverflowing) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(parse_quantity("memory", "100000000000000000000000000000000000000000000"), kMost);
  EXPECT_EQ(parse_quantity("memory", "16Ei"), kMost);
  EXPECT_EQ(parse_quantity("cpu", "9E"), kMost);
  EXPECT_EQ(parse_quantity("memory", "7Ei"), std::int64_t{7} << 60);
}

TEST(Quantity, RefusesWhatIsNone) {
  for (const char* text : {"", "x", "1 Gi", "1gi", "1e", "1e+", "100x", ".", "-", "1..2", "1KiB", "1e99999"}) {
    EXPECT_FALSE(parse_quantity("memory", text)) << text;
  }
}

TEST(Quantity, IsWrittenAsPeopleWriteIt) {
  EXPECT_EQ(quantity_text("cpu", 1500), "1500m");
  EXPECT_EQ(quantity_text("cpu", 2000), "2");
  EXPECT_EQ(quantity_text("memory", std::int64_t{3} << 29), "1536Mi");
  EXPECT_EQ(quantity_text("memory", 1000), "1000");
  EXPECT_EQ(quantity_text("nvidia.com/gpu", 2048), "2048");
}

}  // namespace
}  // namespace trainyard::decide
