#include "controller/kube/lease_elector.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/inbox.h"

namespace trainyard::kube {
namespace {

using namespace std::chrono_literals;
using testing::Inbox;

constexpr int kNever = std::numeric_limits<int>::max();

/// One Lease, with resource versions and conflicts as a server has them; it can be made to fail.
class LeaseStore : public KubeApi {
 public:
  Response perform(const Request& request) override {
    const std::lock_guard lock(mutex_);
    if (version_ >= fails_from_version_) return {.status = 0, .message = "the server is away"};
    if (version_ >= slow_from_version_) std::this_thread::sleep_for(slowness_);
    if (request.method == Method::kGet)
      return lease_.is_null() ? Response{.status = 404} : Response{.status = 200, .body = lease_};
    if (request.method == Method::kPost && !lease_.is_null())
      return {.status = 409, .reason = "AlreadyExists", .message = "exists"};
    if (request.method == Method::kPut &&
        request.body.at("metadata").at("resourceVersion") != lease_.at("metadata").at("resourceVersion")) {
      return {.status = 409, .reason = "Conflict", .message = "modified"};
    }
    store(request.body);
    return {.status = 200, .body = lease_};
  }
  /// Every request fails once there were so many writes.
  void fail_after(int writes) {
    const std::lock_guard lock(mutex_);
    fails_from_version_ = writes;
  }
  /// Every request takes this time once there were so many writes.
  void be_slow_after(int writes, std::chrono::milliseconds slowness) {
    const std::lock_guard lock(mutex_);
    slow_from_version_ = writes;
    slowness_ = slowness;
  }
  LeaseRecord record() {
    const std::lock_guard lock(mutex_);
    return lease_.is_null() ? LeaseRecord{} : read_lease(lease_);
  }
  /// As somebody with an editor would.
  void overwrite(const LeaseRecord& record) {
    const std::lock_guard lock(mutex_);
    store(write_lease(lease_, record));
  }

 private:
  void store(Json lease) {
    lease_ = std::move(lease);
    lease_["metadata"]["resourceVersion"] = std::to_string(++version_);
  }

  std::mutex mutex_;
  Json lease_;
  int version_ = 0;
  int fails_from_version_ = kNever, slow_from_version_ = kNever;
  std::chrono::milliseconds slowness_{0};
};

class Candidate {
 public:
  /// With a short deadline a machine that is busy may end its leadership at any time.
  Candidate(LeaseStore& store, const std::string& identity, std::chrono::milliseconds renew_deadline = 50s)
      : elector_(store,
                 {.name_space = "trainyard",
                  .identity = identity,
                  .duration = 60s,
                  .renew_deadline = renew_deadline,
                  .retry_period = 2ms},
                 {.started_leading = [this] { started_.put(true); },
                  .stopped_leading = [this](const std::string& why) { stopped_.put(why); },
                  .new_leader = [this](const std::string& who) { others_.put(who); }}) {}
  bool starts() { return started_.take().has_value(); }
  std::string why_it_stops() { return stopped_.take().value_or("it did not stop"); }
  std::string hears_of() { return others_.take().value_or("nobody"); }
  bool has_led() const { return started_.size() > 0; }
  LeaseElector& elector() { return elector_; }

 private:
  Inbox<bool> started_;
  Inbox<std::string> stopped_, others_;
  LeaseElector elector_;
};

TEST(LeaseElector, TheOnlyCandidateLeads) {
  LeaseStore store;
  Candidate a(store, "a");
  ASSERT_TRUE(a.starts());
  EXPECT_TRUE(a.elector().is_leader());
  EXPECT_EQ(store.record().holder, "a");
  EXPECT_EQ(store.record().duration, 60s);
}

TEST(LeaseElector, ASecondCandidateLeadsOnceTheFirstStepsDown) {
  LeaseStore store;
  Candidate a(store, "a");
  ASSERT_TRUE(a.starts());
  Candidate b(store, "b");
  EXPECT_EQ(b.hears_of(), "a");
  EXPECT_FALSE(b.has_led());
  a.elector().stop();
  EXPECT_EQ(a.why_it_stops(), "stopped");
  EXPECT_TRUE(b.starts()) << "long before the lease of 60 s would have run out";
  EXPECT_EQ(store.record().transitions, 2);
}

TEST(LeaseElector, ALeaderThatCannotRenewStopsByItsDeadline) {
  LeaseStore store;
  store.fail_after(1);
  Candidate a(store, "a", 300ms);
  ASSERT_TRUE(a.starts());
  EXPECT_EQ(a.why_it_stops(), "the lease could not be renewed for 300 ms: the server is away");
  EXPECT_FALSE(a.elector().is_leader());
  store.fail_after(kNever);
  EXPECT_TRUE(a.starts()) << "it still holds the lease, and tries again";
}

TEST(LeaseElector, ALeaderWhoseRenewalsComeTooLateStopsAndSaysSo) {
  LeaseStore store;
  store.be_slow_after(1, 50ms);
  Candidate a(store, "a", 30ms);
  ASSERT_TRUE(a.starts());
  EXPECT_EQ(
      a.why_it_stops(),
      "the lease could not be renewed for 30 ms: renewals came too late; the API server is slow, or this process did not run");
}

TEST(LeaseElector, ALeaderStopsWhenAnotherHoldsTheLease) {
  LeaseStore store;
  Candidate a(store, "a");
  ASSERT_TRUE(a.starts());
  store.overwrite({.holder = "thief", .duration = 60s});
  EXPECT_EQ(a.why_it_stops(), "`thief` holds the lease");
  EXPECT_EQ(store.record().holder, "thief");
}

TEST(LeaseElector, TellsOfTroubleOnceAndOfItsEnd) {
  LeaseStore store;
  store.fail_after(0);
  Inbox<std::string> troubles;
  const LeaseOptions options{.name_space = "n", .identity = "a", .duration = 60s, .renew_deadline = 10s, .retry_period = 2ms};
  LeaseElector elector(store, options, {.trouble = [&](const std::string& what) { troubles.put(what); }});
  EXPECT_EQ(troubles.take(), "the server is away");
  store.fail_after(kNever);
  EXPECT_EQ(troubles.take(), "");
}

TEST(LeaseElector, OfManyCandidatesOneLeadsAtATime) {
  LeaseStore store;
  Inbox<int> leaders;
  std::atomic<int> num_leading = 0, most_leading = 0;
  std::vector<std::unique_ptr<LeaseElector>> electors;
  electors.reserve(6);
  for (int i = 0; i < 6; ++i) {
    electors.push_back(std::make_unique<LeaseElector>(
        store,
        LeaseOptions{
            .name_space = "n", .identity = std::to_string(i), .duration = 60s, .renew_deadline = 10s, .retry_period = 2ms},
        LeaseCallbacks{.started_leading =
                           [&, i] {
                             const int now = ++num_leading;
                             most_leading = std::max<int>(most_leading, now);
                             leaders.put(i);
                           },
                       .stopped_leading = [&](const std::string&) { --num_leading; }}));
  }
  for (std::size_t succession = 0; succession < electors.size(); ++succession) {
    const auto leader = leaders.take();
    ASSERT_TRUE(leader) << "nobody leads after " << succession << " stepped down";
    electors[static_cast<std::size_t>(*leader)]->stop();
  }
  EXPECT_EQ(most_leading, 1);
}

TEST(LeaseElector, RefusesTimesThatCouldGiveTwoLeaders) {
  LeaseStore store;
  const LeaseOptions good{.name_space = "n", .identity = "i"};
  LeaseOptions late = good, hasty = good, nobody = good;
  late.renew_deadline = 15'000ms;
  hasty.retry_period = 10'000ms;
  nobody.identity = "";
  EXPECT_THROW(LeaseElector(store, late, {}), std::invalid_argument);
  EXPECT_THROW(LeaseElector(store, hasty, {}), std::invalid_argument);
  EXPECT_THROW(LeaseElector(store, nobody, {}), std::invalid_argument);
}

}  // namespace
}  // namespace trainyard::kube
