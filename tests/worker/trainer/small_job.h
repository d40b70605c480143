#pragma once
// A model of some thousand parameters and made-up text, on which a step takes a millisecond or two.

#include <cstdint>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "crds/contract/layout.h"
#include "worker/data/partition.h"
#include "worker/mesh/mesh.h"
#include "worker/schedule/step.h"

namespace trainyard::trainer {

inline contract::TrainingJobSpec small_job(contract::Reduction reduction = contract::Reduction::kFast) {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{
      .layers = 4, .hiddenSize = 32, .heads = 4, .keyValueHeads = 2, .feedForwardSize = 64, .vocabularySize = 64};
  spec.data.sequenceLength = 16;
  spec.training.steps = 12;
  spec.training.globalBatchSize = 8;
  spec.training.optimizer.learningRate = 3e-3;
  spec.training.learningRateSchedule = {.name = contract::ScheduleName::kCosine, .warmupSteps = 5, .minimum = 1e-4};
  spec.training.gradientClipping = contract::GradientClipping{.maxNorm = 1.0};
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  spec.training.reduction = reduction;
  return spec;
}

inline contract::Layout layout_of(contract::TrainingJobSpec& spec, contract::Degrees degrees) {
  spec.parallelism.data = degrees.dp;
  spec.parallelism.pipeline = degrees.pp;
  spec.parallelism.tensor = degrees.tp;
  spec.workers.count = degrees.dp * degrees.pp * degrees.tp;
  const std::int32_t ranks = spec.workers.count;
  if (degrees.shard != 0) {
    spec.parallelism.zero.shardGroup = contract::ShardGroup::kNode;
    spec.workers.processesPerWorker = degrees.shard * degrees.pp * degrees.tp;
    spec.workers.count = degrees.dp / degrees.shard;
  }
  return {degrees, ranks};
}

/// Sequence `number` of a stream that a model can learn: each token follows from the one before, but for every eighth.
inline at::Tensor made_up_tokens(const contract::TrainingJobSpec& spec, std::int64_t number) {
  const std::int64_t vocabulary = spec.model.size->vocabularySize;
  at::Tensor tokens = at::empty({spec.data.sequenceLength + 1}, at::kLong);
  auto* const out = tokens.data_ptr<std::int64_t>();
  std::uint64_t state = static_cast<std::uint64_t>(number) * 0x9e3779b97f4a7c15 + 1;
  for (std::int64_t i = 0; i < tokens.numel(); ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const auto drawn = static_cast<std::int64_t>(state >> 33);
    out[i] = i == 0 || drawn % 8 == 0 ? drawn / 8 % vocabulary : (out[i - 1] * 5 + 3) % vocabulary;
  }
  return tokens;
}

/// What the data rank of `mesh` reads in step `step`, counted from 0.
inline schedule::StepInput made_up_input(const contract::TrainingJobSpec& spec, const mesh::Mesh& mesh, std::int64_t step) {
  const std::int64_t batch = spec.training.globalBatchSize;
  const auto mine = data::micro_batches(batch, mesh.layout().degrees().dp, mesh.at().dp, spec.parallelism.microBatchSize);
  return {.micro_batches = static_cast<std::int32_t>(mine.ranges.size()),
          .micro_batch_size = spec.parallelism.microBatchSize,
          .sequence_length = spec.data.sequenceLength,
          .loss_tokens = batch * spec.data.sequenceLength,
          .read =
              [&spec, mine, first = step * batch](std::int32_t i) {
                const auto& range = mine.ranges.at(static_cast<std::size_t>(i));
                std::vector<at::Tensor> rows;
                for (std::int64_t n = 0; n < range.count; ++n) rows.push_back(made_up_tokens(spec, first + range.first + n));
                const at::Tensor tokens = at::stack(rows);
                const std::int64_t length = spec.data.sequenceLength;
                return schedule::MicroBatch{.tokens_BT = tokens.narrow(1, 0, length), .targets_BT = tokens.narrow(1, 1, length)};
              },
          .first_token = (step * batch + mine.ranges.front().first) * spec.data.sequenceLength};
}

}  // namespace trainyard::trainer
