#include "worker/checkpoint/staging_buffer.h"

#include <utility>

namespace trainyard::checkpoint {

StagingBuffer::Chunk StagingBuffer::room(std::size_t size, std::chrono::steady_clock::time_point until) {
  std::unique_lock lock(mutex_);
  const bool is_room =
      changed_.wait_until(lock, until, [&] { return is_refused_ || !empty_.empty() || existing_ < most_; }) && !is_refused_;
  if (!is_room) return nullptr;
  Chunk chunk;
  if (empty_.empty()) {
    chunk = std::make_unique_for_overwrite<std::byte[]>(size);
    ++existing_;
  } else {
    chunk = std::move(empty_.back());
    empty_.pop_back();
  }
  if (--to_fill_ == 0) empty_.clear();
  return chunk;
}

void StagingBuffer::hand_on(Chunk chunk) {
  const std::lock_guard lock(mutex_);
  full_.push_back(std::move(chunk));
  changed_.notify_all();
}

void StagingBuffer::abandon() {
  const std::lock_guard lock(mutex_);
  is_abandoned_ = true;
  changed_.notify_all();
}

bool StagingBuffer::is_refused() const {
  const std::lock_guard lock(mutex_);
  return is_refused_;
}

StagingBuffer::Chunk StagingBuffer::next(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait(lock, stop, [&] { return is_abandoned_ || !full_.empty(); }) || is_abandoned_) return nullptr;
  Chunk chunk = std::move(full_.front());
  full_.pop_front();
  return chunk;
}

void StagingBuffer::give_back(Chunk chunk) {
  const std::lock_guard lock(mutex_);
  if (to_fill_ > 0) {
    empty_.push_back(std::move(chunk));
    changed_.notify_all();
  }
}

void StagingBuffer::refuse() {
  const std::lock_guard lock(mutex_);
  is_refused_ = true;
  empty_.clear();
  full_.clear();
  changed_.notify_all();
}

}  // namespace trainyard::checkpoint
