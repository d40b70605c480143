#pragma once
// What is measured of each step beside its loss: where the time went, whether loss and norm are out of the ordinary, memory.

#include <cstdint>
#include <deque>
#include <optional>

#include <ATen/ATen.h>

#include "crds/contract/state.h"
#include "worker/mesh/timeline.h"
#include "worker/trainer/progress_meter.h"

namespace trainyard::trainer {

/// How far a value is from those before it: (x - mean) / standard deviation, over the last kWindow values, as llm.c's outlier detector.
/// Pure.
class ZScore {
 public:
  static constexpr std::size_t kWindow = 128;
  static constexpr std::size_t kLeast = 32;  // values before the first score

  /// Of `value` against those before it, which it then joins. Nothing before there are enough, nor where they are all equal. A value
  /// that is not finite has no score and joins nothing.
  std::optional<double> add(double value);

 private:
  std::deque<double> values_;
};

/// The parts of `seconds`; what is not accounted for was computing, or waiting for the device to compute.
contract::StepTimes times_of(const mesh::Totals& totals, double seconds);

/// The most memory that this process has had, in bytes: of the device where it is a GPU (allocated to tensors), else of the host
/// (resident). Nothing where nobody tells.
std::optional<std::int64_t> memory_peak(at::Device device);

/// Lives on the training thread; `timeline` must outlive it.
class Measurements {
 public:
  Measurements(mesh::Timeline& timeline, at::Device device) : timeline_(timeline), device_(device) {}

  /// Before the first step.
  void start();
  /// After each step, and its evaluation where it has one. `loss` and `norm` may be not finite.
  contract::Measures step_done(const ProgressMeter& meter, double loss, double norm);

 private:
  mesh::Timeline& timeline_;
  at::Device device_;
  double began_ = 0;
  ZScore loss_, norm_;
};

}  // namespace trainyard::trainer
