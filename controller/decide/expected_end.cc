#include "controller/decide/expected_end.h"

#include <algorithm>

#include "controller/decide/conditions.h"

namespace trainyard::decide {
namespace {

std::optional<Time> deadline(const Job& job, Time start) {
  const auto& seconds = job.spec.lifecycle.activeDeadlineSeconds;
  if (!seconds) return std::nullopt;
  return contract::parse_rfc3339(job.status.startTime.value_or("")).value_or(start) + std::chrono::seconds(*seconds);
}

std::optional<Time> reported_end(const contract::TrainingJobStatus& status) {
  if (!is_true(status, condition::kRunning) || !status.progress || !status.progress->remainingSeconds) return std::nullopt;
  const auto told = contract::parse_rfc3339(status.progress->updatedAt);
  if (!told) return std::nullopt;
  return *told + std::chrono::seconds(*status.progress->remainingSeconds);
}

}  // namespace

std::optional<Time> expected_end(const Job& job, Time now) {
  const auto& status = job.status;
  if (is_vacating(status)) {
    return std::max(now, since_of(status, condition::kRunning) + std::chrono::seconds(job.spec.lifecycle.checkpointGraceSeconds));
  }
  const auto reported = reported_end(status), last = deadline(job, now);
  if (!reported && !last) return std::nullopt;
  return std::max(now, std::min(reported.value_or(Time::max()), last.value_or(Time::max())));
}

std::optional<Time> expected_end_if_started(const Job& job, Time now) { return deadline(job, now); }

}  // namespace trainyard::decide
