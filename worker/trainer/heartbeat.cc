#include "worker/trainer/heartbeat.h"

#include <utility>

namespace trainyard::trainer {

Heartbeat::Heartbeat(report::Reporter& reporter, mesh::Timeline& timeline, std::int32_t rank, std::chrono::milliseconds interval)
    : reporter_(reporter), timeline_(timeline), rank_(rank), interval_(interval), thread_([this] { run(); }) {}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Heartbeat::set_measures(const contract::Measures& measures) {
  const std::lock_guard lock(mutex_);
  measures_ = measures;
}

void Heartbeat::beat() {
  {
    const std::lock_guard lock(mutex_);
    is_due_ = true;
  }
  changed_.notify_one();
}

void Heartbeat::run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    const auto measures = measures_;
    is_due_ = false;
    lock.unlock();
    auto activity = timeline_.activity();
    activity.rank = rank_;
    reporter_.activity(std::move(activity), measures);
    lock.lock();
    changed_.wait_for(lock, interval_, [this] { return ends_ || is_due_; });
  }
}

}  // namespace trainyard::trainer
