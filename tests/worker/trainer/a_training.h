#pragma once
// A whole training in small, its ranks as threads, and what it reported.

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/paths.h"
#include "tests/worker/mesh/ranks.h"
#include "tests/worker/trainer/reports.h"
#include "tests/worker/trainer/small_job.h"
#include "worker/trainer/training.h"

namespace trainyard::trainer {

namespace fs = std::filesystem;

/// A job with a corpus of real text, and a folder for its checkpoints, gone with this object.
struct Job {
  Job() : folder(fs::path(testing::TempDir()) / ("training-" + std::to_string(getpid()) + "-" + std::to_string(next++))) {
    fs::create_directories(folder);
    spec = small_job(contract::Reduction::kCanonical);
    spec.model.size->layers = 2;
    spec.model.size->vocabularySize = 256;
    spec.training.steps = 6;
    spec.training.globalBatchSize = 4;
    spec.data.train = {{.path = std::string(test::kSourceDir) + "/LICENSE"}};
    spec.data.validation = {{.path = std::string(test::kSourceDir) + "/LICENSE"}};
    spec.evaluation = contract::Evaluation{.everySteps = 4, .batches = 2};
    spec.checkpoint = contract::Checkpoint{.path = folder / "checkpoints", .everySteps = {}, .keep = 3};
  }
  ~Job() { fs::remove_all(folder); }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// The hashes of all tensors in a checkpoint.
  contract::Json tensors_of(std::int64_t step) const {
    contract::Json hashes;
    const auto manifest = manifest_of(step);  // which has to outlive the loop
    for (const auto& [tensor, entry] : manifest.at("tensors").items()) hashes[tensor] = entry.at("hash");
    EXPECT_FALSE(hashes.empty()) << "step " << step << " has no tensors";
    return hashes;
  }
  int version_of(std::int64_t step) const { return manifest_of(step).at("version").get<int>(); }

  fs::path folder;
  contract::TrainingJobSpec spec;
  static inline int next = 0;

 private:
  contract::Json manifest_of(std::int64_t step) const {
    char name[32];
    std::snprintf(name, sizeof name, "step-%08d", static_cast<int>(step));
    std::ifstream file(fs::path(spec.checkpoint->path) / name / "manifest.json");
    return contract::Json::parse(file);
  }
};

struct Run {
  Outcome outcome = Outcome::kFinished;
  std::vector<contract::Report> progress, checkpoints, notices;
};

/// What the ranks of a run take their speed from.
struct Machine {
  std::string device;                  // what its driver would call it
  double seconds_between_looks = 0.5;  // at the clock
};

/// `control(steps)`: what the agent says after so many steps; `restoring`: what it says before the checkpoint is read.
inline Run run(const Job& job, contract::Degrees degrees = {}, std::int64_t generation = 1,
               const std::function<contract::RankControl(std::int64_t)>& control = {}, checkpoint::Storage* storage = nullptr,
               const contract::RankControl& restoring = {}, const Machine& machine = {}) {
  contract::RankConfig config;
  config.jobUid = "uid";
  config.job = "default/small";
  config.generation = generation;
  config.spec = job.spec;
  const auto layout = layout_of(config.spec, degrees);
  config.worldSize = layout.world_size();
  checkpoint::PosixStorage disk;
  ReportFile file;
  std::atomic<Outcome> outcome = Outcome::kFinished;
  mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    ReportFile others;
    report::Reporter reporter(reports_progress(mesh) ? file.descriptor() : others.descriptor(), true);
    std::int64_t asked = -1;
    double seconds = 0;
    const Surroundings around{.reporter = reporter,
                              .storage = storage != nullptr ? *storage : disk,
                              .control =
                                  [&] {
                                    const std::int64_t steps = asked++;
                                    if (steps < 0) return restoring;
                                    return control ? control(steps) : contract::RankControl{};
                                  },
                              .seconds = [&] { return seconds += machine.seconds_between_looks; },
                              .wait = [](std::chrono::seconds) {},
                              .name_of_device = [&](at::Device) { return machine.device; }};
    outcome = Training(config, mesh, around).run();
  });
  return {.outcome = outcome,
          .progress = file.of(contract::ReportKind::kProgress),
          .checkpoints = file.of(contract::ReportKind::kCheckpoint),
          .notices = file.of(contract::ReportKind::kNotice)};
}

inline std::function<contract::RankControl(std::int64_t)> stop_at(std::int64_t step) {
  return [step](std::int64_t asked) {
    return asked < step ? contract::RankControl{} : contract::RankControl{.checkpointRequest = 1, .stopAfter = 1};
  };
}

}  // namespace trainyard::trainer
