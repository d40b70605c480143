#pragma once
// Forward and backward of one optimizer step: runs the plan's program for this rank's pipeline stage, and reduces the gradients.
//
//   micro-batches ─> program of the stage (worker/plan/pipeline.h) ─> GradientSum, with data ranks BucketedGradients ─> with
//   parallelism.sequence norms over the tensor ranks ─> tied embedding ─> StepResult

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/mesh.h"
#include "worker/model/llama.h"
#include "worker/model/parameters.h"
#include "worker/plan/pipeline.h"
#include "worker/schedule/bucketed_gradients.h"
#include "worker/schedule/gradient_sum.h"

namespace trainyard::schedule {

/// Letters: B sequences, T tokens. int64, on any device.
struct MicroBatch {
  at::Tensor tokens_BT;
  at::Tensor targets_BT;
};
/// Reads this data rank's micro-batch of the step; called for the first and the last part of the model alone, once for each.
using ReadMicroBatch = std::function<MicroBatch(std::int32_t micro_batch)>;

/// What a step works on.
struct StepInput {
  std::int32_t micro_batches = 1;     // of this data rank
  std::int32_t not_counted = 0;       // the last of them, whose loss loss_sum() leaves out
  std::int64_t micro_batch_size = 1;  // sequences
  std::int64_t sequence_length = 0;
  std::int64_t loss_tokens = 0;  // targets of all data ranks: what the loss is the mean over
  ReadMicroBatch read;
  /// The number, among all tokens of the training, of the first one of this data rank's first micro-batch, whose others follow: what dropout
  /// depends on. Nothing is dropped without it.
  std::optional<std::int64_t> first_token = std::nullopt;
  double loss_scale =
      1.0;  // what each loss is multiplied with before backward; gradients, not the loss, come back with it in them
};

struct StepResult {
  at::Tensor loss;  // FP32 scalar: the mean over all tokens of the step on last stages, 0 on the others
  /// FP32, of Parameters::all() and their boxes, summed over micro-batches and data ranks. On the device; with zero.offload.optimizer on
  /// the host, until the next run().
  std::vector<at::Tensor> gradients;
};

/// Lives on the training thread; the constructor's arguments must outlive it.
class StepRunner {
 public:
  /// `chunks`: of this rank's stage, as model::llama_chunks() makes them. Throws contract::UserError (LayoutNotSupported) where data ranks are
  /// so many, and the vocabulary so small, that tensor ranks would keep different shards of the norms whose gradients they have to add up.
  StepRunner(const contract::TrainingJobSpec& spec, model::Parameters& parameters, std::vector<model::LlamaStage>& chunks,
             mesh::Mesh& mesh);

  /// Each micro-batch's loss is its sum over tokens divided by loss_tokens, before backward. Collective over the mesh.
  StepResult run(const StepInput& input);

  /// Forward alone: the sum of the cross entropy over the tokens of this data rank's micro-batches, in FP64; 0 but on last stages.
  double loss_sum(const StepInput& input);

 private:
  struct InFlight;
  /// Takes the gradients of a micro-batch on a chunk, and last its loss.
  using AddSummand = std::function<void(std::int32_t chunk, Summand)>;
  plan::PipelineShape shape(const StepInput& input) const;
  /// Runs a program: for training with what the gradients go to, else with the loss's sum.
  void execute(const std::vector<plan::PipelineOp>& program, const StepInput& input, const AddSummand& add, at::Tensor* loss_sum);
  void receive(const plan::PipelineOp& op, const plan::PipelineLink& link, const StepInput& input, InFlight& flight);
  void forward(const plan::PipelineOp& op, const StepInput& input, InFlight& flight, at::Tensor* loss_sum);
  Summand backward(std::int32_t chunk, InFlight& flight);
  Summand finished(std::int32_t chunk, InFlight& flight);
  Summand gradients_of(std::int32_t chunk);
  Summand summed(const std::vector<plan::PipelineOp>& program, const StepInput& input);
  Summand summed_by_unit(const std::vector<plan::PipelineOp>& program, const StepInput& input);
  Summand all_chunks(std::vector<GradientSum>& sums);
  std::vector<at::Tensor> by_parameter(Summand& sum);
  void add_tied(std::vector<at::Tensor>& gradients);
  void add_shards_of_tokens(Summand& sum);

  const contract::TrainingJobSpec& spec_;
  model::Parameters& parameters_;
  std::vector<model::LlamaStage>& chunks_;
  mesh::Mesh& mesh_;
  std::vector<std::int32_t> chunk_of_leaf_;
  model::LateWeights late_;
  std::unique_ptr<BucketedGradients> bucketed_;  // null where there is one data rank, and nothing on its host
};

}  // namespace trainyard::schedule
