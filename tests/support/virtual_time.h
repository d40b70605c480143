#pragma once
// A loop in virtual time: whatever has a delay happens in the order of its time, as fast as it can be computed, and by a seed the
// same way again.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <vector>

#include "controller/reconcile/executor.h"
#include "crds/contract/time.h"

namespace trainyard::test {

using std::chrono::milliseconds;
using std::chrono::seconds;

class VirtualTime {
 public:
  explicit VirtualTime(std::uint64_t seed = 1);
  VirtualTime(std::uint64_t seed, contract::Time start);

  contract::Time now() const { return start_ + uptime_; }
  milliseconds uptime() const { return std::chrono::duration_cast<milliseconds>(uptime_); }
  void after(std::chrono::microseconds delay, std::function<void()> task);
  void at(std::chrono::microseconds uptime, std::function<void()> task);
  /// Until nothing is left to do before `time` has passed.
  void run_for(std::chrono::microseconds time);
  /// The same, up to that uptime: for one that follows a real clock.
  void run_to(std::chrono::microseconds uptime) { run_for(std::max(uptime, uptime_) - uptime_); }
  /// When there is something to do next.
  std::optional<std::chrono::microseconds> next() const;
  /// Until `done` holds, looked at after each task; false when it does not within `limit`.
  bool run_until(const std::function<bool()>& done, std::chrono::microseconds limit);
  std::int64_t num_tasks_run() const { return tasks_run_; }

  /// Equally likely in [low, high].
  std::int64_t random(std::int64_t low, std::int64_t high);
  milliseconds random_time(milliseconds low, milliseconds high) { return milliseconds(random(low.count(), high.count())); }
  /// True once in `times` on average; never for 0.
  bool one_in(std::int64_t times) { return times > 0 && random(1, times) == 1; }

 private:
  struct Task {
    std::chrono::microseconds at;
    std::uint64_t number;  // of two tasks at the same time the one that was handed in first
    std::shared_ptr<std::function<void()>> run;
    bool operator<(const Task& other) const { return at != other.at ? at > other.at : number > other.number; }
  };
  bool step(std::chrono::microseconds end);

  std::priority_queue<Task> tasks_;
  std::chrono::microseconds uptime_{0};
  contract::Time start_;
  std::uint64_t number_ = 0;
  std::int64_t tasks_run_ = 0;
  std::mt19937_64 random_;
};

/// One controller's executor. Requests take a random time to the server and back, so that answers come in any order.
class VirtualExecutor : public reconcile::Executor {
 public:
  struct Latency {
    milliseconds low{1}, high{5};
  };
  explicit VirtualExecutor(VirtualTime& time) : VirtualExecutor(time, Latency{}) {}
  VirtualExecutor(VirtualTime& time, Latency latency) : time_(time), latency_(latency), alive_(std::make_shared<bool>(true)) {}
  ~VirtualExecutor() override { stop(); }

  contract::Time now() const override { return time_.now(); }
  milliseconds uptime() const override { return time_.uptime(); }
  void brain(std::function<void()> task) override;
  void brain_after(milliseconds delay, std::function<void()> task) override;
  void hand(std::function<void()> task) override;

  /// Nothing of what was handed in runs any more: the process died.
  void stop() { alive_ = nullptr; }
  /// Everything waits until then, and happens all the same, in its order: the process was frozen, or its machine asleep.
  void freeze(milliseconds how_long) { frozen_until_ = std::max(frozen_until_, time_.uptime() + how_long); }

 private:
  void later(std::chrono::microseconds delay, std::function<void()> task, bool on_hand);
  void run(std::function<void()> task, bool on_hand);
  void thaw();

  VirtualTime& time_;
  const Latency latency_;
  std::shared_ptr<bool> alive_;
  milliseconds frozen_until_{0};
  std::deque<std::pair<std::function<void()>, bool>> put_off_;  // what came while it was frozen, and whether it is a hand's
  bool on_hand_ = false;
  milliseconds since_hand_{0};  // of what the hand has last given the brain: it keeps its order
};

}  // namespace trainyard::test
