#include "worker/trainer/measurements.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include <c10/core/CachingDeviceAllocator.h>

namespace trainyard::trainer {

std::optional<double> ZScore::add(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  std::optional<double> score;
  if (values_.size() >= kLeast) {
    const double count = static_cast<double>(values_.size());
    double sum = 0, squares = 0;
    for (const double each : values_) sum += each;
    const double mean = sum / count;
    for (const double each : values_) squares += (each - mean) * (each - mean);
    const double deviation = std::sqrt(squares / count);
    if (deviation > 0) score = (value - mean) / deviation;
  }
  values_.push_back(value);
  if (values_.size() > kWindow) values_.pop_front();
  return score;
}

contract::StepTimes times_of(const mesh::Totals& totals, double seconds) {
  using mesh::Work;
  const auto of = [&totals](Work work) {
    const auto found = totals.work.find(work);
    return found == totals.work.end() ? 0.0 : found->second;
  };
  contract::StepTimes times{
      .seconds = seconds, .data = of(Work::kData), .checkpoint = of(Work::kCheckpoint), .communication = totals.calls};
  times.compute = seconds - times.data - times.checkpoint;
  for (const auto& [axis, waited] : totals.calls) times.compute -= waited;
  times.compute = std::max(0.0, times.compute);
  return times;
}

std::optional<std::int64_t> memory_peak(at::Device device) {
  if (device.is_cuda()) {
    const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    return stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  }
  if (!device.is_cpu()) return std::nullopt;
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return std::nullopt;
  return std::int64_t{usage.ru_maxrss} * 1024;  // Linux tells kibibytes
}

void Measurements::start() {
  timeline_.take_totals();
  began_ = timeline_.seconds();
}

contract::Measures Measurements::step_done(const ProgressMeter& meter, double loss, double norm) {
  const double now = timeline_.seconds();
  contract::Measures out{.times = times_of(timeline_.take_totals(), now - began_),
                         .memoryPeakBytes = memory_peak(device_),
                         .lossZScore = loss_.add(loss),
                         .gradientNormZScore = norm_.add(norm),
                         .modelFlopsPerSecond = meter.model_flops(),
                         .hardwareFlopsPerSecond = meter.hardware_flops(),
                         .hardwareFlopsUtilization = meter.hfu()};
  began_ = now;
  return out;
}

}  // namespace trainyard::trainer
