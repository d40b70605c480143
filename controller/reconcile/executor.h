#pragma once
// Time and threads, handed in: main.cc gives the real ones, the simulator one loop in virtual time.

#include <chrono>
#include <functional>

#include "crds/contract/time.h"

namespace trainyard::reconcile {

/// Where the controller's code runs. The brain is one thread: cache, queue, timers and decisions live there and need no mutex. Hands
/// are a small pool that performs blocking requests and hands each result back by brain(). All functions may be called from brain
/// and hands and do not block. Nothing that was handed in runs after the executor was stopped, so whoever is referred to by such a
/// function is destroyed only then.
class Executor {
 public:
  virtual ~Executor() = default;
  /// The wall clock, as it stands in API objects.
  virtual contract::Time now() const = 0;
  /// Since some fixed moment, by a clock that never jumps.
  virtual std::chrono::milliseconds uptime() const = 0;
  /// Runs `task` on the brain, after everything that was handed in from the same thread before.
  virtual void brain(std::function<void()> task) = 0;
  /// Runs `task` on the brain when `delay` is over, by the clock of uptime().
  virtual void brain_after(std::chrono::milliseconds delay, std::function<void()> task) = 0;
  /// Runs `task` on a hand as soon as one is free; it may block.
  virtual void hand(std::function<void()> task) = 0;
};

}  // namespace trainyard::reconcile
