#include "worker/agent/console.h"

#include <cstdio>

namespace trainyard::agent {
namespace {

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
  return digits;
}

std::string duration_text(std::int64_t seconds) {
  if (seconds < 60) return std::to_string(seconds) + " s";
  if (seconds < 3600) return std::to_string(seconds / 60) + " min " + std::to_string(seconds % 60) + " s";
  return std::to_string(seconds / 3600) + " h " + std::to_string(seconds % 3600 / 60) + " min";
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace

std::string progress_text(const contract::Progress& progress) {
  std::string text = "step " + std::to_string(progress.step) + "/" + std::to_string(progress.steps);
  if (progress.steps > 0) text += " (" + std::to_string(100 * progress.step / progress.steps) + "%)";
  if (progress.loss) text += " | loss " + fixed(*progress.loss, 3);
  if (progress.validationLoss) text += " | validation " + fixed(*progress.validationLoss, 3);
  if (progress.skippedSteps) text += " | " + with_commas(*progress.skippedSteps) + " skipped";
  if (progress.tokensPerSecond) text += " | " + with_commas(static_cast<std::int64_t>(*progress.tokensPerSecond)) + " tokens/s";
  if (progress.mfu) text += " | MFU " + fixed(100 * *progress.mfu, 1) + "%";
  if (progress.remainingSeconds && progress.step < progress.steps)
    text += " | " + duration_text(*progress.remainingSeconds) + " left";
  return text;
}

std::string failure_text(const contract::Failure& failure) {
  std::string text = failure.reason + ": " + failure.message;
  std::string where;
  if (failure.rank) where += "rank " + std::to_string(*failure.rank);
  if (failure.signal) {
    where += ", " + *failure.signal;
  } else if (failure.exitCode) {
    where += ", exit code " + std::to_string(*failure.exitCode);
  }
  if (!where.empty()) text += " (" + where + ")";
  if (!failure.lastLines.empty()) text += "\n  Its last lines:";
  for (const auto& line : failure.lastLines) text += "\n  | " + line;
  return text;
}

void Console::line(std::string_view text) {
  if (open_line_) out_ << "\r\033[K";
  open_line_ = false;
  out_ << text << std::endl;
}

void Console::rank_line(std::int32_t rank, std::string_view text) {
  line("[rank " + std::to_string(rank) + "] " + std::string(text));
}

void Console::state(const contract::State& state) {
  for (const auto& notice : state.notices) {
    if (notice.number <= last_notice_) continue;
    last_notice_ = notice.number;
    line((notice.warning ? "Warning: " : "") + notice.reason + ": " + notice.message);
  }
  if (state.checkpoint && state.checkpoint->step != last_checkpoint_) {
    last_checkpoint_ = state.checkpoint->step;
    line("Checkpoint of step " + std::to_string(last_checkpoint_) + " at " + state.checkpoint->path);
  }
  if (state.progress && state.progress->step != last_step_) progress(*state.progress);
}

void Console::progress(const contract::Progress& progress) {
  if (progress.step < last_step_) last_shown_step_ = 0;  // a restart went back to the checkpoint
  last_step_ = progress.step;
  if (options_.terminal) {
    out_ << "\r\033[K" << progress_text(progress) << std::flush;
    open_line_ = true;
    return;
  }
  const bool due = progress.step / options_.every_steps != last_shown_step_ / options_.every_steps;
  if (!due && last_shown_step_ != 0 && progress.step != progress.steps) return;
  last_shown_step_ = progress.step;
  line(progress_text(progress));
}

}  // namespace trainyard::agent
