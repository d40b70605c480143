#pragma once
// spec.metrics: TensorBoard's files of the job, from the rank that reports, and the traces of chosen steps, from every rank.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <optional>
#include <string>

#include "crds/contract/job.h"
#include "crds/contract/state.h"
#include "worker/mesh/mesh.h"
#include "worker/report/event_file.h"

namespace trainyard::trainer {

/// Lives on the training thread; `spec` and `mesh` must outlive it. What cannot be written is told once, and training goes on.
class MetricsFolder {
 public:
  using Warn = std::function<void(const std::string&)>;
  /// `step`: done before the run. Nothing is written where the spec has no metrics.
  MetricsFolder(const contract::TrainingJobSpec& spec, mesh::Mesh& mesh, std::int64_t step, bool reports, Warn warn);

  void before_step(std::int64_t step);
  /// Of the reporting rank. `evaluated`: the step's own validation loss is in it.
  void add(const contract::Progress& progress, const contract::Measures& measures, bool evaluated);
  /// Of the reporting rank: how long training stood still for a checkpoint that has ended by this step.
  void add_checkpoint(std::int64_t step, double blocked_seconds);
  /// With all that came between this step and the next.
  void after_step(std::int64_t step);
  /// At the end: waits for what a helper still writes, but not for long.
  void finish();

 private:
  bool traces(std::int64_t step) const;
  void write(std::int64_t step, const std::vector<report::Scalar>& scalars);
  void tell_of_trace();

  const contract::TrainingJobSpec& spec_;
  mesh::Mesh& mesh_;
  Warn warn_;
  std::filesystem::path folder_;
  std::optional<report::EventFile> events_;
  bool told_of_full_trace_ = false;
  std::future<std::string> trace_;  // why the last one could not be written; empty: it was
};

/// Tags and values of a step; what was not measured is left out.
std::vector<report::Scalar> scalars_of(const contract::Progress& progress, const contract::Measures& measures, bool evaluated);

}  // namespace trainyard::trainer
