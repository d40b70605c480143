#include "controller/kube/lease.h"

#include <gtest/gtest.h>

namespace trainyard::kube {
namespace {

using namespace std::chrono_literals;

const std::chrono::steady_clock::time_point kStart{};
const contract::Time kNow{1'000'000s};

LeaseObservation held_by(const std::string& holder) {
  return {.record = {.holder = holder, .duration = 15s, .acquired = kNow, .renewed = kNow, .transitions = 3},
          .changed_at = kStart};
}

TEST(Lease, IsReadAsItWasWritten) {
  const LeaseRecord record = held_by("a").record;
  const Json object = write_lease({{"metadata", {{"name", "trainyard-controller"}, {"resourceVersion", "5"}}}}, record);
  EXPECT_EQ(read_lease(object), record);
  EXPECT_EQ(object.at("kind"), "Lease");
  EXPECT_EQ(object.at("metadata").at("resourceVersion"), "5") << "so that the server refuses the write when somebody else wrote";
}

TEST(Lease, AMalformedOneReadsAsFree) {
  for (const Json& object :
       {Json::object(), Json{{"spec", nullptr}}, Json{{"spec", {{"holderIdentity", 7}, {"renewTime", "soon"}}}}}) {
    EXPECT_EQ(read_lease(object), LeaseRecord{}) << object;
  }
}

TEST(Lease, OfAnotherIsLeftAloneUntilItHasNotChangedForItsDuration) {
  EXPECT_FALSE(may_acquire(held_by("a"), "b", kStart + 14'999ms));
  EXPECT_TRUE(may_acquire(held_by("a"), "b", kStart + 15s));
}

TEST(Lease, MayAlwaysBeTakenByItsHolderAndWhenItIsReleased) {
  EXPECT_TRUE(may_acquire(held_by("a"), "a", kStart));
  EXPECT_TRUE(may_acquire(held_by(""), "b", kStart));
}

TEST(Lease, CountsTransitionsNotRenewals) {
  const LeaseRecord renewed = acquired_lease(held_by("a").record, "a", 15s, kNow + 2s);
  EXPECT_EQ(renewed.transitions, 3);
  EXPECT_EQ(renewed.acquired, kNow);
  EXPECT_EQ(renewed.renewed, kNow + 2s);
  const LeaseRecord taken = acquired_lease(held_by("a").record, "b", 15s, kNow + 20s);
  EXPECT_EQ(taken.transitions, 4);
  EXPECT_EQ(taken.acquired, kNow + 20s);
}

TEST(Lease, WhenReleasedHasNoHolder) {
  const LeaseRecord released = released_lease(held_by("a").record, kNow + 1s);
  EXPECT_EQ(released.holder, "");
  EXPECT_EQ(released.transitions, 3);
}

}  // namespace
}  // namespace trainyard::kube
