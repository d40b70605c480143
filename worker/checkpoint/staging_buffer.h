#pragma once
// Memory of bounded size that goes round between two threads: one fills chunks, the other empties them in that order.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

namespace trainyard::checkpoint {

class StagingBuffer {
 public:
  using Chunk = std::unique_ptr<std::byte[]>;

  /// `chunks` are handed on in all, and there are at most `most` of them at a time; both at least 1, or both 0. No memory is taken yet.
  StagingBuffer(std::int64_t chunks, std::int64_t most) : to_fill_(chunks), most_(most) {}

  /// Of the one who fills: memory of at least `size` bytes, which must not grow from call to call. Waits while all of it is full; null
  /// where it still is at `until`, and once refuse() was called. Throws std::bad_alloc.
  Chunk room(std::size_t size, std::chrono::steady_clock::time_point until);
  void hand_on(Chunk chunk);
  /// The chunks that are missing will not come.
  void abandon();
  [[nodiscard]] bool is_refused() const;

  /// Of the one who empties: waits for the next chunk. Null after abandon(), and when `stop` is requested.
  Chunk next(const std::stop_token& stop);
  /// For room(), or, when that has been asked for all it may, to the system.
  void give_back(Chunk chunk);
  /// No more are taken: whoever waits for room need not.
  void refuse();

 private:
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::int64_t to_fill_;  // chunks that room() did not give yet
  std::int64_t most_;
  std::int64_t existing_ = 0;
  std::vector<Chunk> empty_;
  std::deque<Chunk> full_;
  bool is_abandoned_ = false, is_refused_ = false;
};

}  // namespace trainyard::checkpoint
