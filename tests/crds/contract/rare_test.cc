#include "crds/contract/rare.h"

#include <utility>

#include <gtest/gtest.h>

#include "crds/contract/job.h"
#include "crds/contract/sparse.h"

namespace trainyard::contract {
namespace {

TEST(Rare, TakesTheRoomOfAPointer) { EXPECT_EQ(sizeof(Rare<Failure>), sizeof(void*)); }

TEST(Rare, IsCopiedAsAValue) {
  Rare<int> a = 1;
  Rare<int> b = a;
  *b = 2;
  EXPECT_EQ(*a, 1);
  a = b;
  b.reset();
  EXPECT_EQ(*a, 2);
  EXPECT_FALSE(b.has_value());
  b = std::move(a);
  EXPECT_EQ(*b, 2);
}

TEST(Rare, TakesWhatAnOptionalHolds) {
  Rare<int> number = std::optional<int>(3);
  EXPECT_EQ(number.value(), 3);
  number = std::optional<int>();
  EXPECT_FALSE(number.has_value());
  EXPECT_THROW(static_cast<void>(number.value()), std::bad_optional_access);
  EXPECT_EQ(number.emplace(4), 4);
  number = std::nullopt;
  EXPECT_FALSE(number.has_value());
}

TEST(Rare, IsEqualToOneThatHoldsAnEqualValue) {
  const Rare<int> one = 1, another = 1, two = 2, none{}, nothing{};
  EXPECT_TRUE(one == another);
  EXPECT_FALSE(one == two);
  EXPECT_FALSE(one == none);
  EXPECT_FALSE(none == one);
  EXPECT_TRUE(none == nothing);
}

TEST(Rare, IsLeftOutOfJsonWhereItIsEmptyAndReadBackWhereItIsThere) {
  TrainingJobStatus status;
  EXPECT_FALSE(encode(status).contains("failure"));
  status.failure = Failure{.reason = "RankCrashed"};
  EXPECT_EQ(decode<TrainingJobStatus>(encode(status)).value, status);
  EXPECT_EQ(decode<TrainingJobStatus>(encode_sparse(status)).value, status);
  EXPECT_EQ(encode_sparse(status).dump(), R"({"failure":{"reason":"RankCrashed"}})");
}

}  // namespace
}  // namespace trainyard::contract
