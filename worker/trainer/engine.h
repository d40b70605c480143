#pragma once
// One rank's whole training state, and one optimizer step on it: what the training loop drives, and what numerics tests compare.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"
#include "worker/checkpoint/tensor_shard.h"
#include "worker/mesh/mesh.h"
#include "worker/model/llama.h"
#include "worker/model/parameters.h"
#include "worker/optim/adamw.h"
#include "worker/optim/gradient_norm.h"
#include "worker/schedule/step.h"
#include "worker/trainer/engine_state.h"

namespace trainyard::trainer {

struct StepMetrics {
  double loss = 0.0;           // nats a token, the mean over the step; equal on all ranks
  double gradient_norm = 0.0;  // before clipping; equal on all ranks
  double learning_rate = 0.0;
  bool skipped = false;  // the norm is not finite, so the step changed no parameter and no moment; equal on all ranks
};

/// Lives on the training thread; `spec` and `mesh` must outlive it. All calls but shards() are collective over the mesh.
class Engine {
 public:
  /// Parameters are undefined until initialize() or a load.
  Engine(const contract::TrainingJobSpec& spec, mesh::Mesh& mesh, std::int64_t steps);

  /// `steps`: of the whole training, which the learning-rate schedule ends with.
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// The initial values of the seed; step 0.
  void initialize();
  /// After a checkpoint was loaded into shards(): what follows from the masters, and what the state was.
  void resume(const EngineState& state);

  /// Forward, backward, reduction, clipping, AdamW; in FP16 with the loss scale, whose overflow is just such a gradient. A step whose gradient is not finite counts as done, as with PyTorch's GradScaler when
  /// the schedule moves on: it has consumed its data and its learning rate, but changes neither parameters nor moments nor what AdamW
  /// counts. All ranks decide alike, since all have the norm of the whole gradient.
  StepMetrics step(schedule::StepInput input);
  /// Forward alone; see StepRunner::loss_sum().
  double loss_sum(const schedule::StepInput& input) { return runner_.loss_sum(input); }

  /// Weights and optimizer moments of this rank, as checkpoints name them; of equal boxes exactly one rank writes.
  std::vector<checkpoint::TensorShard> shards() const;

  std::int64_t steps_done() const { return state_.steps; }
  const EngineState& state() const { return state_; }
  const model::Parameters& parameters() const { return parameters_; }
  /// The last step's gradients, in the order of parameters().all(), until the next step: on a CPU after clipping, on a GPU and with offload,
  /// which leaves them on the host, before.
  const std::vector<at::Tensor>& gradients() const { return gradients_; }

 private:
  void begin_loss_scale();

  const contract::TrainingJobSpec& spec_;
  mesh::Mesh& mesh_;
  std::int64_t steps_;
  model::Parameters parameters_;
  std::vector<model::LlamaStage> chunks_;  // of this rank's pipeline stage
  schedule::StepRunner runner_;
  optim::GradientNorm norm_;
  optim::AdamW optimizer_;
  EngineState state_;
  std::vector<at::Tensor> gradients_;
};

}  // namespace trainyard::trainer
