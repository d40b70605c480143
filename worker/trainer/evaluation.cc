#include "worker/trainer/evaluation.h"

#include <algorithm>

#include "worker/plan/shards.h"

namespace trainyard::trainer {

EvaluationShare evaluation_share(const contract::TrainingJobSpec& spec, std::int64_t num_samples, std::int32_t dp,
                                 std::int32_t dp_rank) {
  std::int64_t samples = num_samples;
  if (spec.evaluation && spec.evaluation->batches) {
    samples = std::min(samples, std::int64_t{*spec.evaluation->batches} * spec.training.globalBatchSize);
  }
  EvaluationShare share{.size = std::min<std::int64_t>(samples, spec.parallelism.microBatchSize)};
  share.total = samples / share.size;
  share.first = share.total * dp_rank / dp;
  share.count = share.total * (dp_rank + 1) / dp - share.first;
  share.most = (share.total + dp - 1) / dp;
  return share;
}

double evaluate(const contract::TrainingJobSpec& spec, const data::SampleSet& samples, Engine& engine, mesh::Mesh& mesh) {
  const auto share = evaluation_share(spec, samples.num_samples(), mesh.layout().degrees().dp, mesh.at().dp);
  // Where forward gathers weights from the other data ranks, all make as many forwards.
  const std::int64_t forwards = plan::zero_stage(spec) == 3 ? share.most : share.count;
  const double sum = engine.loss_sum({.micro_batches = static_cast<std::int32_t>(forwards),
                                      .not_counted = static_cast<std::int32_t>(forwards - share.count),
                                      .micro_batch_size = share.size,
                                      .sequence_length = spec.data.sequenceLength,
                                      .read = [&](std::int32_t i) {
                                        const std::int64_t micro_batch = std::min(share.first + i, share.total - 1);
                                        auto batch = samples.read(micro_batch * share.size, share.size);
                                        return schedule::MicroBatch{batch.tokens_BT, batch.targets_BT};
                                      }});
  at::Tensor total = at::full({1}, sum, at::TensorOptions().dtype(at::kDouble).device(mesh.device()));
  mesh.data().all_reduce(total, mesh::ReduceOp::kSum);
  if (mesh.pipeline().size() > 1) mesh.pipeline().all_reduce(total, mesh::ReduceOp::kSum);  // the other stages have 0: exact
  return total.item<double>() / static_cast<double>(share.total * share.size * spec.data.sequenceLength);
}

}  // namespace trainyard::trainer
