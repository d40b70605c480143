#pragma once
// Waits that double up to a bound, each with jitter so that many clients do not come back at once.

#include <algorithm>
#include <chrono>
#include <random>

namespace trainyard::kube {

struct BackoffLimits {
  std::chrono::milliseconds first{200};
  std::chrono::milliseconds last{5'000};
};

/// One thread.
class Backoff {
 public:
  Backoff(BackoffLimits limits, std::mt19937 random) : limits_(limits), step_(limits.first), random_(random) {}

  /// Between half of the current step and all of it.
  std::chrono::milliseconds next() {
    const auto whole = step_.count();
    step_ = std::min(step_ * 2, limits_.last);
    return std::chrono::milliseconds(std::uniform_int_distribution<std::chrono::milliseconds::rep>(whole / 2, whole)(random_));
  }
  void reset() { step_ = limits_.first; }

 private:
  const BackoffLimits limits_;
  std::chrono::milliseconds step_;
  std::mt19937 random_;
};

}  // namespace trainyard::kube
