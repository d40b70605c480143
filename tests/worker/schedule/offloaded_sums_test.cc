#include "worker/schedule/offloaded_sums.h"

#include <gtest/gtest.h>

#include "tests/worker/mesh/late_link.h"
#include "tests/worker/model/live_bytes.h"

namespace trainyard::schedule {
namespace {

const std::vector<std::int64_t> kElements{5, 1000, 1, 64};

at::Tensor values(std::size_t which, std::int64_t micro_batch) {
  return at::arange(kElements.at(which), at::kFloat)
      .mul(0.37)
      .add(static_cast<double>(which) + 0.1 * static_cast<double>(micro_batch))
      .sin();
}

/// As BucketedGradients adds a micro-batch's.
void add(OffloadedSums& sums, std::size_t which, const at::Tensor& summand) {
  auto [before, crossing] = sums.bring_up(which, at::kCPU);
  if (!before.defined()) return sums.send_down(which, summand.clone());
  crossing->wait_on_device();
  sums.send_down(which, before.add_(summand));
}

void expect_sums_of(OffloadedSums& sums, std::int64_t first, std::int64_t micro_batches) {
  sums.begin();
  for (std::int64_t i = first; i < first + micro_batches; ++i) {
    for (std::size_t which = kElements.size(); which-- > 0;) add(sums, which, values(which, i));
  }
  sums.settle();
  for (std::size_t which = 0; which < kElements.size(); ++which) {
    at::Tensor expected = values(which, first);
    for (std::int64_t i = first + 1; i < first + micro_batches; ++i) expected.add_(values(which, i));
    EXPECT_TRUE(at::equal(sums.sum(which), expected)) << which << " of " << micro_batches;
  }
}

TEST(OffloadedSums, AreThoseOfTheDeviceHoweverLateACopyIs) {
  mesh::LateLink late;
  const auto at_once = mesh::host_link(at::kCPU);
  for (mesh::HostLink* link : {static_cast<mesh::HostLink*>(&late), at_once.get()}) {
    OffloadedSums sums(*link, kElements);
    for (const std::int64_t micro_batches : {1, 2, 5}) expect_sums_of(sums, 7, micro_batches);
    expect_sums_of(sums, 3, 2);  // nothing of the step before is in it
  }
}

TEST(OffloadedSums, GoUpOnlyOnceTheyAreDown) {
  mesh::LateLink late;
  OffloadedSums sums(late, kElements);
  sums.begin();
  for (std::int64_t i = 0; i < 3; ++i) add(sums, 1, values(1, i));  // no other is between them
  sums.settle();
  EXPECT_TRUE(at::equal(sums.sum(1), values(1, 0).add(values(1, 1)).add(values(1, 2))));
}

TEST(OffloadedSums, GoDownBesideWhatTheDeviceDoesAndUpToo) {
  mesh::LateLink late;
  OffloadedSums sums(late, kElements);
  sums.begin();
  sums.send_down(0, values(0, 0));
  EXPECT_EQ(late.done(mesh::Way::kDown), 0) << "nobody needs it yet";
  sums.send_down(1, values(1, 0));
  EXPECT_EQ(late.done(mesh::Way::kDown), 1);
  const auto up = sums.bring_up(0, at::kCPU);
  EXPECT_EQ(late.done(mesh::Way::kUp), 0);
  EXPECT_EQ(late.done(mesh::Way::kDown), 1) << "another one is on its way";
  up.crossing->wait_on_device();
  EXPECT_TRUE(at::equal(up.sum, values(0, 0)));
  sums.settle();
  EXPECT_EQ(late.done(mesh::Way::kDown), 2);
}

TEST(OffloadedSums, TakeTheirRoomOnTheHostAndOneAtATimeOnTheDevice) {
  std::atomic<std::int64_t> on_host = 0;
  mesh::LateLink late(mesh::LateLink::kSmallBlock, &on_host);
  std::int64_t elements = 0;
  for (const std::int64_t count : kElements) elements += count;
  {
    OffloadedSums sums(late, kElements);
    EXPECT_EQ(on_host, 4 * elements);
    sums.begin();
    const test::LiveBytes live;
    const std::int64_t before = test::LiveBytes::now();
    for (std::size_t which = 0; which < kElements.size(); ++which) {
      sums.send_down(which, values(which, 0));
      EXPECT_EQ(test::LiveBytes::now() - before, 4 * kElements[which]);
    }
    sums.settle();
    EXPECT_EQ(test::LiveBytes::now(), before);
  }
  EXPECT_EQ(on_host, 0);
}

}  // namespace
}  // namespace trainyard::schedule
