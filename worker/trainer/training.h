#pragma once
// The training loop of one rank: data, step, evaluation, checkpoint, report.

#include <functional>

#include "crds/contract/assignment.h"
#include "worker/checkpoint/storage.h"
#include "worker/mesh/mesh.h"
#include "worker/report/reporter.h"

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
};

/// Trains from the newest checkpoint that is right, or from the start, to the end. On the calling thread, collective over the mesh.
/// The rank of the last stage with data and tensor rank 0 reports progress after every step.
/// Throws contract::UserError when the manifest, the data or the volumes are at fault, and where the gradients are no longer finite;
/// mesh::PeerLost when another rank is gone.
Outcome train(const contract::RankConfig& config, mesh::Mesh& mesh, const Surroundings& around);

/// Whether this rank reports for the job.
bool reports_progress(const mesh::Mesh& mesh);

}  // namespace trainyard::trainer
