#pragma once
// Hears what the agent wants of a rank that trains.

#include <functional>
#include <mutex>
#include <thread>

#include "crds/contract/assignment.h"
#include "worker/trainer/line_reader.h"

namespace trainyard::trainer {

/// A helper thread reads the lines; the training thread asks for the latest between steps.
class ControlReader {
 public:
  /// `on_gone` is called on the helper thread when the input ends: the agent is gone, and nobody would hear of this rank any more.
  ControlReader(LineReader lines, std::function<void()> on_gone);
  /// Waits for the input to end; a program that goes on to exit must not destroy this object first.
  ~ControlReader() = default;

  /// Requests only grow and a stop is not taken back, whatever the lines say; a line that is no RankControl is left out.
  contract::RankControl latest() const;

 private:
  void run(LineReader lines);

  mutable std::mutex mutex_;
  contract::RankControl latest_;
  std::function<void()> on_gone_;
  std::jthread reader_;
};

}  // namespace trainyard::trainer
