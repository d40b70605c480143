#pragma once
// Tells the agent every second, and at moments that it should know of at once, what this rank does, so that a rank that hangs is seen, and
// because of whom.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "crds/contract/state.h"
#include "worker/mesh/timeline.h"
#include "worker/report/reporter.h"

namespace trainyard::trainer {

/// A helper thread from the constructor to the end of the destructor. `reporter` and `timeline` must outlive this object.
class Heartbeat {
 public:
  Heartbeat(report::Reporter& reporter, mesh::Timeline& timeline, std::int32_t rank,
            std::chrono::milliseconds interval = std::chrono::seconds(1));
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  /// What it tells beside, from now on.
  void set_measures(const contract::Measures& measures);
  /// Tells it now, rather than within the interval.
  void beat();

 private:
  void run();

  report::Reporter& reporter_;
  mesh::Timeline& timeline_;
  const std::int32_t rank_;
  const std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<contract::Measures> measures_;
  bool is_due_ = false;
  bool ends_ = false;
  std::jthread thread_;
};

}  // namespace trainyard::trainer
