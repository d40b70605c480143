#include "worker/mesh/timeline.h"

#include <array>

#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"
#include "worker/mesh/left_out.h"
#include "worker/mesh/watched_comm.h"

namespace trainyard::mesh {
namespace {

/// A timeline whose clock a test sets.
struct AtHand {
  double now = 0;
  Timeline timeline{[this] { return now; }};
};

TEST(ATimeline, GivesEachSecondToTheInnermostSpan) {
  AtHand at;
  {
    const Timeline::Span forward(at.timeline, Work::kForward, 3);
    at.now = 1;
    {
      const Timeline::Span data(at.timeline, Work::kData);
      at.now = 3;
    }
    const Timeline::Span call(at.timeline, at.timeline.started("gradients", "receive", 8, 1));
    at.now = 7;
  }
  const auto totals = at.timeline.take_totals();
  EXPECT_EQ(totals.work, (std::map<Work, double>{{Work::kData, 2}, {Work::kForward, 1}}));
  EXPECT_EQ(totals.calls, (std::map<std::string, double>{{"pipeline", 4}}));
  EXPECT_TRUE(at.timeline.take_totals().work.empty());
}

TEST(ATimeline, TellsWhatTheRankDoesAndWhichCallItWaitsIn) {
  AtHand at;
  at.timeline.set_step(12, true);
  const Timeline::Span forward(at.timeline, Work::kForward, 3);
  const Timeline::Span call(at.timeline, at.timeline.started("activations", "receive", 8, 5));
  at.now = 2;
  const auto activity = at.timeline.activity();
  EXPECT_EQ(activity.step, 12);
  EXPECT_TRUE(activity.warm);
  EXPECT_EQ(activity.doing, "forward of micro-batch 3");
  EXPECT_EQ(
      activity.call,
      (contract::GroupCall{.group = "activations", .operation = "receive", .number = 1, .elements = 8, .peer = 5, .seconds = 2}));
  EXPECT_EQ(activity.started.at("activations"), 1);
  EXPECT_EQ(at.timeline.activity().mark, activity.mark) << "it has not moved";
}

TEST(ATimeline, MarksEverythingThatBeginsOrEnds) {
  AtHand at;
  const auto before = at.timeline.activity().mark;
  { const Timeline::Span span(at.timeline, Work::kData); }
  EXPECT_EQ(at.timeline.activity().mark, before + 2);
  at.timeline.touch();
  EXPECT_EQ(at.timeline.activity().mark, before + 3);
}

TEST(ATimeline, CountsAWaitWithALimitOfItsOwnAsProgress) {
  AtHand at;
  const Timeline::Span span(at.timeline, Work::kLeave);
  const auto before = at.timeline.activity().mark;
  EXPECT_GT(at.timeline.activity().mark, before);
}

TEST(ATimeline, RemembersTheCallThatAnExceptionEnded) {
  AtHand at;
  try {
    const Timeline::Span forward(at.timeline, Work::kForward);
    const Timeline::Span call(at.timeline, at.timeline.started("tensor", "all_reduce", 8));
    throw PeerLost("gone");
  } catch (const PeerLost&) {
  }
  ASSERT_TRUE(at.timeline.activity().call);
  EXPECT_EQ(at.timeline.activity().call->group, "tensor");
}

/// A call that a device has been given.
struct FakeDevice : OnDevice {
  bool begun = false, done = false;
  bool has_begun() override { return begun; }
  bool is_done() override { return done; }
  double seconds() override { return 5; }
};

TEST(ATimeline, WaitsInTheCallThatItsDeviceWaitsIn) {
  AtHand at;
  const auto first = std::make_shared<FakeDevice>(), second = std::make_shared<FakeDevice>();
  for (const auto& device : {first, second}) {
    const Timeline::Span span(at.timeline, at.timeline.started("data", "all_reduce", 8), device);
  }
  EXPECT_FALSE(at.timeline.activity().call) << "the device still computes what is before it";
  EXPECT_EQ(at.timeline.activity().started.at("data"), 0) << "so it has come to no call";
  first->begun = true;
  EXPECT_EQ(at.timeline.activity().call->number, 1);
  EXPECT_EQ(at.timeline.activity().started.at("data"), 1);
  first->done = second->begun = true;
  EXPECT_EQ(at.timeline.activity().call->number, 2);
  EXPECT_EQ(at.timeline.take_totals().calls.at("data"), 5) << "of the first alone";
  second->done = true;
  EXPECT_EQ(at.timeline.take_totals().calls.at("data"), 5);
}

TEST(ATimeline, SaysNothingOfADeviceThatHasFailed) {
  struct Failed final : OnDevice {
    bool has_begun() override { throw std::runtime_error("CUDA error: an illegal memory access was encountered"); }
    bool is_done() override { return has_begun(); }
    double seconds() override { return 0; }
  };
  AtHand at;
  at.timeline.set_step(3, true);
  { const Timeline::Span span(at.timeline, at.timeline.started("data", "all_reduce", 8), std::make_shared<Failed>()); }
  const auto activity = at.timeline.activity();
  EXPECT_EQ(activity.step, 3);
  EXPECT_FALSE(activity.call);
  EXPECT_EQ(activity.started.at("data"), 1);
}

TEST(ATimeline, KeepsSpansOnlyWhileItRecords) {
  AtHand at;
  { const Timeline::Span span(at.timeline, Work::kForward); }
  at.timeline.record(true);
  {
    const Timeline::Span span(at.timeline, Work::kForward, 2, 1);
    at.now = 4;
  }
  at.timeline.record(false);
  { const Timeline::Span span(at.timeline, Work::kForward); }
  const auto events = at.timeline.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "forward");
  EXPECT_EQ(events[0].micro_batch, 2);
  EXPECT_EQ(events[0].chunk, 1);
  EXPECT_EQ(events[0].end, 4);
}

TEST(ATimeline, CountsTheSpansThatARecordingHasNoRoomFor) {
  AtHand at;
  at.timeline.record(true);
  for (int i = 0; i < 200'003; ++i) {
    const Timeline::Span span(at.timeline, Work::kForward);
    at.now = i;
  }
  const auto events = at.timeline.take_events();
  ASSERT_EQ(events.size(), 200'001u);
  EXPECT_EQ(events.back().name, kLeftOut);
  EXPECT_EQ(events.back().number, 3);
  EXPECT_EQ(events.back().begin, 200'000);
  EXPECT_EQ(events.back().end, 200'002);
  { const Timeline::Span span(at.timeline, Work::kForward); }
  EXPECT_EQ(at.timeline.take_events().at(0).name, "forward") << "the next one begins anew";
}

TEST(AWatchedComm, NumbersTheCallsOfItsGroupAndGivesWhatTheInnerOneGives) {
  LocalWorld world;
  auto inner = world.make_group(2);
  std::array<Timeline, 2> timelines;
  const auto body = [&](std::size_t rank) {
    WatchedComm comm(std::move(inner[rank]), timelines[rank], "tensor", {4, 5});
    at::Tensor one = at::ones({3});
    comm.all_reduce(one, ReduceOp::kSum);
    EXPECT_EQ(one[0].item<float>(), 2);
    comm.start_all_reduce(one, ReduceOp::kMax)->wait();
    at::Tensor whole = at::empty({4});
    comm.start_all_gather(whole, at::full({2}, double{1} * comm.rank()))->wait();
    EXPECT_EQ(whole[3].item<float>(), 1);
    if (rank == 0) comm.send(one, 1, 7);
    if (rank == 1) comm.receive(one, 0, 7);
    comm.barrier();
  };
  {
    std::jthread other([&] { body(1); });
    body(0);
  }
  EXPECT_EQ(timelines[0].activity().started, timelines[1].activity().started);
  EXPECT_EQ(timelines[0].activity().started.at("tensor"), 5);
  EXPECT_TRUE(timelines[0].take_totals().calls.contains("tensor"));
}

TEST(AWatchedComm, TellsWhoIsWaitedForWhileItWaits) {
  LocalWorld world;
  auto inner = world.make_group(2);
  Timeline timeline;
  WatchedComm comm(std::move(inner[0]), timeline, "activations", {4, 5});
  std::jthread waiter([&] {
    at::Tensor received = at::empty({3});
    EXPECT_THROW(comm.receive(received, 1, 0), PeerLost);
  });
  while (!timeline.activity().call) std::this_thread::yield();
  EXPECT_EQ(timeline.activity().call->peer, 5) << "by its number in the world";
  EXPECT_EQ(timeline.activity().call->elements, 3);
  world.lose("a test");
}

}  // namespace
}  // namespace trainyard::mesh
