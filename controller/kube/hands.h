#pragma once
// A small pool of threads for blocking requests.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace trainyard::kube {

/// Runs each task on the first free thread, in the order in which they came; a thread is made when none is free, until there are so many: each
/// keeps memory, and the connection that its requests open does. A task that throws ends the program. Any thread.
class Hands {
 public:
  explicit Hands(std::size_t most_threads);
  ~Hands();  // stops
  Hands(const Hands&) = delete;
  Hands& operator=(const Hands&) = delete;

  void run(std::function<void()> task);
  /// Waits for the tasks under way (stop their KubeApi first); no other runs any more. Not to be called by a task.
  void stop();
  [[nodiscard]] std::size_t num_threads() const;

 private:
  void add_thread();  // with the lock
  void work() noexcept;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool stopped_ = false;
  const std::size_t most_threads_;
  std::size_t num_free_ = 0;           // threads that wait for a task
  std::vector<std::jthread> threads_;  // last: they use all of the above
};

}  // namespace trainyard::kube
