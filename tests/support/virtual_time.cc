#include "tests/support/virtual_time.h"

#include <algorithm>
#include <utility>

namespace trainyard::test {

using std::chrono::microseconds;

VirtualTime::VirtualTime(std::uint64_t seed) : VirtualTime(seed, *contract::parse_rfc3339("2026-01-01T00:00:00Z")) {}
VirtualTime::VirtualTime(std::uint64_t seed, contract::Time start) : start_(start), random_(seed) {}

void VirtualTime::after(microseconds delay, std::function<void()> task) { at(uptime_ + delay, std::move(task)); }

void VirtualTime::at(microseconds uptime, std::function<void()> task) {
  tasks_.push({std::max(uptime, uptime_), number_++, std::make_shared<std::function<void()>>(std::move(task))});
}

bool VirtualTime::step(microseconds end) {
  if (tasks_.empty() || tasks_.top().at > end) return false;
  const Task task = tasks_.top();
  tasks_.pop();
  uptime_ = task.at;
  ++tasks_run_;
  (*task.run)();
  return true;
}

void VirtualTime::run_for(microseconds time) {
  const microseconds end = uptime_ + time;
  while (step(end)) {
  }
  uptime_ = end;
}

std::optional<microseconds> VirtualTime::next() const {
  if (tasks_.empty()) return std::nullopt;
  return tasks_.top().at;
}

bool VirtualTime::run_until(const std::function<bool()>& done, microseconds limit) {
  const microseconds end = uptime_ + limit;
  while (!done()) {
    if (!step(end)) {
      uptime_ = end;
      return done();
    }
  }
  return true;
}

std::int64_t VirtualTime::random(std::int64_t low, std::int64_t high) {
  // Not std::uniform_int_distribution, which is another one with every standard library: a seed means the same everywhere.
  return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
}

void VirtualExecutor::brain(std::function<void()> task) {
  if (on_hand_) since_hand_ += time_.random_time(latency_.low, latency_.high);
  later(on_hand_ ? since_hand_ : milliseconds(0), std::move(task), false);
}

void VirtualExecutor::brain_after(milliseconds delay, std::function<void()> task) { later(delay, std::move(task), false); }

void VirtualExecutor::hand(std::function<void()> task) {
  later(time_.random_time(latency_.low, latency_.high), std::move(task), true);
}

void VirtualExecutor::later(microseconds delay, std::function<void()> task, bool on_hand) {
  time_.after(delay, [this, on_hand, alive = std::weak_ptr<bool>(alive_), task = std::move(task)]() mutable {
    if (!alive.expired()) run(std::move(task), on_hand);
  });
}

void VirtualExecutor::run(std::function<void()> task, bool on_hand) {
  if (time_.uptime() < frozen_until_ || !put_off_.empty()) {
    put_off_.emplace_back(std::move(task), on_hand);
    if (put_off_.size() == 1) thaw();
    return;
  }
  on_hand_ = on_hand;
  since_hand_ = milliseconds(0);
  const std::weak_ptr<bool> alive(alive_);
  task();
  if (!alive.expired()) on_hand_ = false;
}

void VirtualExecutor::thaw() {
  time_.at(frozen_until_, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    if (time_.uptime() < frozen_until_) return thaw();  // it froze again
    for (auto put_off = std::exchange(put_off_, {}); !put_off.empty() && !alive.expired(); put_off.pop_front()) {
      run(std::move(put_off.front().first), put_off.front().second);
    }
  });
}

}  // namespace trainyard::test
