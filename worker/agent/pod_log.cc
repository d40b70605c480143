#include "worker/agent/pod_log.h"

#include "crds/contract/job.h"

namespace trainyard::agent {

void PodLog::state(const contract::State& state, const Measured& measured, std::chrono::milliseconds now) {
  if (state.progress) progress(*state.progress, measured, now);
  for (const auto& notice : state.notices) {
    if (notice.number <= last_notice_) continue;
    last_notice_ = notice.number;
    log_(notice.warning ? Severity::kWarning : Severity::kInfo, "notice", {{"reason", notice.reason}, {"text", notice.message}});
  }
  if (state.checkpoint && state.checkpoint != last_checkpoint_) {
    last_checkpoint_ = state.checkpoint;
    log_(Severity::kInfo, "checkpoint written", {{"step", state.checkpoint->step}, {"path", state.checkpoint->path}});
  }
  if (state.failure && state.failure != last_failure_) {
    nlohmann::json keys = contract::encode(*state.failure);
    keys["text"] = std::move(keys["message"]);
    keys.erase("message");    // the line's own
    keys.erase("lastLines");  // they are in this log already
    log_(Severity::kWarning, "training failed", keys);
  }
  last_failure_ = state.failure;
}

void PodLog::progress(const contract::Progress& progress, const Measured& measured, std::chrono::milliseconds now) {
  if (last_progress_ == progress) return;
  const bool due = !last_progress_ || now >= last_progress_at_ + kInterval || progress.step >= progress.steps ||
                   progress.validationLoss != last_progress_->validationLoss;
  if (!due) return;
  last_progress_ = progress;
  last_progress_at_ = now;
  nlohmann::json keys = contract::encode(progress);
  const auto of = measured.reporting_rank ? measured.of_rank.find(*measured.reporting_rank) : measured.of_rank.end();
  if (of != measured.of_rank.end()) keys.update(contract::encode(of->second));
  log_(Severity::kInfo, "progress", keys);
}

}  // namespace trainyard::agent
