#pragma once
// Leader election by a Lease: of several controllers one acts.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "controller/kube/kube_api.h"
#include "controller/kube/lease.h"

namespace trainyard::kube {

struct LeaseOptions {
  std::string name_space;  // of the Lease
  std::string name = "trainyard-controller";
  std::string identity;  // who this is; unique among those that live
  // A leader that dies is followed within duration + 2.5 retry_period, 9.5 s, and the time of a request: others see its last renewal up to
  // 1.25 retry_period after it, and look again as long after that has run out.
  std::chrono::seconds duration{7};                 // others may take the lease when it was not renewed for so long
  std::chrono::milliseconds renew_deadline{5'000};  // a leader that could not renew for so long stops leading; < duration
  std::chrono::milliseconds retry_period{1'000};    // between tries to acquire and to renew; < renew_deadline
};

/// On the elector's thread; must return soon, since no renewal happens meanwhile.
struct LeaseCallbacks {
  std::function<void()> started_leading;
  /// Leading has to end now: somebody else may lead after the rest of the lease's duration (at least duration - renew_deadline).
  std::function<void(const std::string& why)> stopped_leading;
  /// Once when somebody else is seen to lead, with the name.
  std::function<void(const std::string& leader)> new_leader;
  /// Once when the lease cannot be read or written (`what` says why), and once when it can again (empty).
  std::function<void(const std::string& what)> trouble;
};

/// A thread that tries to acquire the lease, renews it, and after a loss tries again. Two electors never lead at once as long as
/// their steady clocks run at about the same speed: a leader stops `renew_deadline` after it *sent* its last successful renewal, and
/// nobody takes the lease before `duration` after that renewal was seen.
class LeaseElector {
 public:
  /// Starts. `api` must outlive this, and each of its requests must end within its timeout. Throws std::invalid_argument when the
  /// times are not retry_period < renew_deadline < duration, or a name is empty.
  LeaseElector(KubeApi& api, LeaseOptions options, LeaseCallbacks callbacks);
  /// Stops.
  ~LeaseElector();
  LeaseElector(const LeaseElector&) = delete;
  LeaseElector& operator=(const LeaseElector&) = delete;

  /// Gives the lease up, if held, so that another takes it within its retry period; calls stopped_leading before. Blocks until done,
  /// at most a few seconds. First end what the leader does: the next one may begin at once.
  void stop();
  /// Also by the clock: false from the moment at which the lease is lost, even where this process was frozen meanwhile and the
  /// elector's thread has not said stopped_leading yet. Any thread.
  bool is_leader() const { return leading_ && Clock::now().time_since_epoch().count() < leads_until_; }

 private:
  using Clock = std::chrono::steady_clock;

  void run(const std::stop_token& stop);
  /// One try to acquire or renew, done at `end`: true when the lease is ours now.
  bool try_to_hold(Clock::time_point end);
  bool fetch(Clock::time_point end);
  bool write(const LeaseRecord& record, Clock::time_point end);
  /// When a leader has to stop.
  Clock::time_point lost_at() const;
  std::chrono::milliseconds until_next_try();
  void observe(Json lease);
  /// Keeps why a request failed, until a write succeeds.
  void failed(const Response& answer);
  void start_leading();
  void stop_leading(const std::string& why);
  void release();
  void pause(const std::stop_token& stop, std::chrono::milliseconds time);

  KubeApi& api_;
  const LeaseOptions options_;
  const LeaseCallbacks callbacks_;
  const std::string collection_;
  std::mt19937 random_;
  std::optional<Json> lease_;  // as last seen; nothing: look first
  LeaseObservation seen_;
  Clock::time_point held_since_{};  // when the last successful write was sent
  std::string last_problem_;
  bool in_trouble_ = false;
  std::string reported_leader_;
  std::atomic<bool> leading_ = false;
  std::atomic<Clock::rep> leads_until_{0};  // lost_at()
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace trainyard::kube
