#pragma once
// The one thread on which the controller thinks.

#include <chrono>
#include <functional>
#include <memory>

namespace trainyard::kube {

/// Runs tasks one after another on a thread of its own, in the order in which they were given from one thread; and later ones by a
/// steady clock. All functions may be called from any thread and return at once, but for stop(). A task that throws ends the program:
/// it is a bug, and the next start reads the world anew.
class Brain {
 public:
  Brain();
  ~Brain();  // stops
  Brain(const Brain&) = delete;
  Brain& operator=(const Brain&) = delete;

  void run(std::function<void()> task);
  void run_after(std::chrono::milliseconds delay, std::function<void()> task);
  /// Waits for the task under way; no other runs any more. Not to be called by a task.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trainyard::kube
