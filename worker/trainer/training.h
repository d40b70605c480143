#pragma once
// The training loop of one rank: data, step, evaluation, checkpoint, report.

#include <chrono>
#include <functional>
#include <memory>

#include "crds/contract/assignment.h"
#include "crds/contract/state.h"
#include "worker/checkpoint/storage.h"
#include "worker/mesh/mesh.h"
#include "worker/report/reporter.h"
#include "worker/trainer/device_name.h"

namespace trainyard::trainer {

enum class Outcome {
  kFinished,  // all steps are done, and the last checkpoint is durable
  kStopped    // as the agent wished, after the checkpoint that it wished for
};

/// What a training needs of the world outside.
struct Surroundings {
  report::Reporter& reporter;
  checkpoint::Storage& storage;
  std::function<contract::RankControl()> control;  // what the agent last said
  std::function<double()> seconds;                 // a clock that does not go back
  std::function<void(std::chrono::seconds)> wait;  // returns after that time
  std::function<void(const contract::Measures&)> measured = [](const contract::Measures&) {
  };                                        // of a rank that does not report progress
  std::function<void()> warmed_up = [] {};  // the first step is done, so what follows takes no longer than a step
  std::function<std::string(at::Device)> name_of_device = device_name;  // whose peak rates are shares of
};

/// One rank's training. Lives on the training thread; the constructor's arguments must outlive it. Its end may wait for the writer of a
/// checkpoint, so whoever has a failure to tell tells it first.
class Training {
 public:
  /// Opens the data and allocates the model. Throws contract::UserError where the data is at fault; data::CorpusUnavailable when it
  /// cannot be read for the moment, as run() does.
  Training(const contract::RankConfig& config, mesh::Mesh& mesh, const Surroundings& around);
  ~Training();
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  /// Trains from the newest checkpoint that is right, or from the start, to the end. Collective over the mesh. The rank of the last
  /// stage with data and tensor rank 0 reports progress after every step.
  /// Throws contract::UserError when the manifest, the data or the volumes are at fault, and where no gradient is finite any more;
  /// checkpoint::StorageUnavailable when a checkpoint cannot be read, or the last one not written, for the moment; mesh::PeerLost when
  /// another rank is gone.
  Outcome run();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

/// Whether this rank reports for the job.
bool reports_progress(const mesh::Mesh& mesh);

}  // namespace trainyard::trainer
