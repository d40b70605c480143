#include "worker/report/text.h"

#include <iomanip>
#include <sstream>

namespace trainyard::report {

using contract::Report;
using contract::ReportKind;

namespace {

std::string progress_text(const contract::Progress& progress) {
  std::ostringstream out;
  out << "step " << progress.step << "/" << progress.steps << std::setprecision(4) << std::fixed;
  if (progress.loss) out << "  loss " << *progress.loss;
  if (progress.validationLoss) out << "  validation loss " << *progress.validationLoss;
  if (progress.learningRate) out << std::scientific << std::setprecision(2) << "  learning rate " << *progress.learningRate;
  if (progress.gradientNorm) out << std::fixed << std::setprecision(3) << "  gradient norm " << *progress.gradientNorm;
  if (progress.skippedSteps) out << "  skipped " << *progress.skippedSteps;
  if (progress.lossScale) out << std::defaultfloat << std::setprecision(6) << "  loss scale " << *progress.lossScale;
  if (progress.tokensPerSecond) out << std::fixed << std::setprecision(0) << "  " << *progress.tokensPerSecond << " tokens/s";
  if (progress.remainingSeconds) out << "  " << *progress.remainingSeconds << " s left";
  return out.str();
}

}  // namespace

std::string to_text(const Report& report) {
  switch (report.kind) {
    case ReportKind::kProgress:
      if (report.progress) return progress_text(*report.progress);
      break;
    case ReportKind::kCheckpoint:
      if (report.checkpoint)
        return "checkpoint of step " + std::to_string(report.checkpoint->step) + " is durable in " + report.checkpoint->path;
      break;
    case ReportKind::kNotice:
      if (report.notice)
        return (report.notice->warning ? "warning: " : "") + report.notice->reason + ": " + report.notice->message;
      break;
    case ReportKind::kFailure:
      if (report.failure) {
        return "failed (" + std::string(contract::name_of(report.failure->failureClass)) + "): " + report.failure->reason + ": " +
               report.failure->message;
      }
      break;
    case ReportKind::kActivity: break;
  }
  return contract::encode(report).dump(-1, ' ', false, contract::Json::error_handler_t::replace);
}

}  // namespace trainyard::report
