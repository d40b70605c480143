#pragma once
// What a checkpoint says of its training besides tensors.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/assignment.h"
#include "worker/data/sample_stream.h"

namespace trainyard::trainer {

/// What a source was called when the checkpoint was written. It may change between resumes; people should know that it did.
struct SourceThen {
  std::string path;
  double weight = 1.0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("path", self.path);
    field("weight", self.weight);
  }
  bool operator==(const SourceThen&) const = default;
};

/// The manifest's `state` (docs/formats.md). Equal on all ranks.
struct ResumeState {
  data::Cursor cursor;
  std::optional<double> loss;            // of the last step
  std::optional<double> validationLoss;  // of the last evaluation
  std::vector<SourceThen> sources;       // of data.train
  std::int32_t threads = 0;              // a process; 0: not known

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("cursor", self.cursor);
    field("loss", self.loss);
    field("validationLoss", self.validationLoss);
    field("sources", self.sources);
    field("threads", self.threads);
  }
  bool operator==(const ResumeState&) const = default;
};

/// What people were last told of how good the model is.
struct Losses {
  std::optional<double> training;    // of the last step
  std::optional<double> validation;  // of the last evaluation
};
/// What a training that has come to `cursor` keeps.
ResumeState resume_state_of(const contract::RankConfig& config, const data::Cursor& cursor, const Losses& losses);

/// What is another than it was, though training may go on: one line each.
std::vector<std::string> changes_since(const ResumeState& then, const contract::RankConfig& now);

}  // namespace trainyard::trainer
