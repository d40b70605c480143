#include "worker/trainer/metrics_folder.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <system_error>
#include <utility>

#include "worker/mesh/left_out.h"
#include "worker/trainer/trace_file.h"

namespace trainyard::trainer {
namespace {

constexpr std::chrono::seconds kLastWait{5};

std::filesystem::path folder_of(const contract::TrainingJobSpec& spec) {
  if (!spec.metrics) return {};
  if (spec.metrics->path) return *spec.metrics->path;
  return std::filesystem::path(spec.checkpoint.value().path) / "metrics";
}

std::string trace_name(std::int64_t step, std::int32_t rank) {
  char name[64];
  std::snprintf(name, sizeof name, "step-%08lld-rank-%05d.json", static_cast<long long>(step), rank);
  return name;
}

}  // namespace

std::vector<report::Scalar> scalars_of(const contract::Progress& progress, const contract::Measures& measures, bool evaluated) {
  std::vector<report::Scalar> out;
  const auto add = [&out](const char* tag, const auto& value) {
    if (value) out.push_back({tag, static_cast<double>(*value)});
  };
  add("train/loss", progress.loss);
  add("train/learning_rate", progress.learningRate);
  add("train/gradient_norm", progress.gradientNorm);
  add("train/loss_z_score", measures.lossZScore);
  add("train/gradient_norm_z_score", measures.gradientNormZScore);
  add("train/skipped_steps", progress.skippedSteps);
  add("train/loss_scale", progress.lossScale);
  out.push_back({"train/tokens", static_cast<double>(progress.tokens)});
  if (evaluated) {
    add("validation/loss", progress.validationLoss);
    add("validation/perplexity", progress.validationPerplexity);
  }
  add("speed/tokens_per_second", progress.tokensPerSecond);
  add("speed/model_flops_utilization", progress.mfu);
  add("speed/hardware_flops_utilization", measures.hardwareFlopsUtilization);
  add("speed/model_flops_per_second", measures.modelFlopsPerSecond);
  add("memory/peak_bytes", measures.memoryPeakBytes);
  if (const auto& times = measures.times) {
    out.push_back({"time/step", times->seconds});
    out.push_back({"time/compute", times->compute});
    out.push_back({"time/data", times->data});
    out.push_back({"time/checkpoint", times->checkpoint});
    for (const auto& [axis, seconds] : times->communication) out.push_back({"time/communication_" + axis, seconds});
  }
  return out;
}

MetricsFolder::MetricsFolder(const contract::TrainingJobSpec& spec, mesh::Mesh& mesh, std::int64_t step, bool reports, Warn warn)
    : spec_(spec), mesh_(mesh), warn_(std::move(warn)), folder_(folder_of(spec)) {
  if (spec.metrics && spec.metrics->tensorBoard && reports) events_.emplace(folder_ / "tensorboard", step);
}

bool MetricsFolder::traces(std::int64_t step) const {
  if (!spec_.metrics || !spec_.metrics->trace) return false;
  const auto& steps = spec_.metrics->trace->steps;
  return std::find(steps.begin(), steps.end(), step) != steps.end();
}

void MetricsFolder::before_step(std::int64_t step) {
  if (traces(step)) mesh_.timeline().record(true);
}

void MetricsFolder::add(const contract::Progress& progress, const contract::Measures& measures, bool evaluated) {
  write(progress.step, scalars_of(progress, measures, evaluated));
}

void MetricsFolder::add_checkpoint(std::int64_t step, double blocked_seconds) {
  write(step, {{"time/checkpoint_blocked", blocked_seconds}});
}

void MetricsFolder::write(std::int64_t step, const std::vector<report::Scalar>& scalars) {
  if (!events_) return;
  events_->add(step, scalars);
  if (const auto trouble = events_->take_trouble(); !trouble.empty())
    warn_("TensorBoard's files are not written any more: " + trouble);
}

void MetricsFolder::after_step(std::int64_t step) {
  if (!traces(step)) return;
  auto& timeline = mesh_.timeline();
  timeline.record(false);
  const double wall = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  if (trace_.valid() && trace_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    timeline.take_events();
    return warn_("the trace of step " + std::to_string(step) + " is left out, since the one before it is still being written");
  }
  tell_of_trace();
  auto events = timeline.take_events();
  if (!events.empty() && events.back().name == mesh::kLeftOut && !std::exchange(told_of_full_trace_, true)) {
    warn_("the trace of step " + std::to_string(step) + " holds the first " + std::to_string(events.size() - 1) +
          " spans of rank " + std::to_string(mesh_.rank()) + ", and not the " + std::to_string(events.back().number) +
          " that came after: a step of fewer micro-batches, or without an evaluation or a checkpoint, has fewer");
  }
  // The storage may take its time, which training does not wait for.
  trace_ = std::async(std::launch::async, [path = folder_ / "traces" / trace_name(step, mesh_.rank()), rank = mesh_.rank(),
                                           offset = wall - timeline.seconds(), events = std::move(events)] {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    std::ofstream file(path, std::ios::binary);
    write_trace(file, events, rank, offset);
    return file.flush() ? std::string() : "the trace " + path.string() + " could not be written";
  });
}

void MetricsFolder::tell_of_trace() {
  if (!trace_.valid()) return;
  if (const auto trouble = trace_.get(); !trouble.empty()) warn_(trouble);
}

void MetricsFolder::finish() {
  const mesh::Timeline::Span span(mesh_.timeline(), mesh::Work::kLeave);  // has a limit of its own, so it is no hang
  if (events_) events_->flush(kLastWait);
  if (trace_.valid() && trace_.wait_for(kLastWait) == std::future_status::ready) tell_of_trace();
}

}  // namespace trainyard::trainer
