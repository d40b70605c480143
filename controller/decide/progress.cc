#include "controller/decide/progress.h"

#include <array>
#include <charconv>
#include <cmath>
#include <tuple>

namespace trainyard::decide {
namespace {

void round_all(contract::Progress& progress) {
  progress.epoch = rounded(progress.epoch);
  for (auto* number : {&progress.loss, &progress.validationLoss, &progress.validationPerplexity, &progress.learningRate,
                       &progress.gradientNorm, &progress.lossScale, &progress.tokensPerSecond, &progress.mfu}) {
    if (!*number) continue;
    // JSON has no infinity; a loss that left the numbers is told by the worker's own failure or notice.
    if (std::isfinite(**number)) {
      **number = rounded(**number);
    } else {
      number->reset();
    }
  }
}

/// Whether the report is older than what the status tells of this same generation: a controller that begins to lead may hold answers
/// of agents from long ago. Running turns true with a generation's first step.
bool is_outdated(const contract::TrainingJobStatus& status, const contract::Progress& report) {
  const auto& known = status.progress;
  return known && is_true(status, condition::kRunning) && report.step < known->step && report.updatedAt <= known->updatedAt;
}

}  // namespace

double rounded(double value) {
  std::array<char, 32> text{};
  const auto written = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::scientific, 5);
  double out = value;
  std::from_chars(text.data(), written.ptr, out);
  return out;
}

void copy_progress(Review& review) {
  const contract::Progress* newest = nullptr;
  for (const auto& worker : review.gang.workers) {
    if (worker.said == nullptr) continue;
    const auto& progress = worker.said->progress;
    if (progress && (newest == nullptr || progress->step > newest->step)) newest = &*progress;
    const auto& checkpoint = worker.said->checkpoint;
    auto& known = review.status.checkpoint;
    // Times are in seconds, in which a small model may write several.
    if (checkpoint && (!known || std::tie(checkpoint->completedAt, checkpoint->step) > std::tie(known->completedAt, known->step)))
      known = checkpoint;
  }
  if (newest == nullptr || is_outdated(review.job.status, *newest)) return;
  review.status.progress = *newest;
  round_all(*review.status.progress);
}

}  // namespace trainyard::decide
