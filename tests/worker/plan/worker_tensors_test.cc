#include "worker/plan/worker_tensors.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

/// On CPUs, `ranks` to a worker.
contract::TrainingJobSpec job_on_cpus(std::int32_t workers, std::int32_t ranks) {
  contract::TrainingJobSpec spec;
  spec.model.size =
      contract::ModelSize{.layers = 4, .hiddenSize = 256, .heads = 4, .feedForwardSize = 1024, .vocabularySize = 8192};
  spec.data.sequenceLength = 128;
  spec.training.globalBatchSize = 4 * workers * ranks;
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  spec.workers.count = workers;
  spec.workers.processesPerWorker = ranks;
  return spec;
}

TEST(TensorBytesPerWorker, AreThoseOfItsRanksThatDoTheSameAtTheSameTime) {
  EXPECT_EQ(tensor_bytes_per_worker(job_on_cpus(3, 1)), bytes_per_rank(job_on_cpus(3, 1), 0).total());
  EXPECT_EQ(tensor_bytes_per_worker(job_on_cpus(3, 4)), 4 * bytes_per_rank(job_on_cpus(3, 4), 0).total());
}

TEST(TensorBytesPerWorker, HaveOfSeveralStagesAllThatTheyKeepAndWhatOneOfThemHasAtTimes) {
  auto spec = job_on_cpus(2, 2);
  spec.parallelism.pipeline = 2;
  const auto first = bytes_per_rank(spec, 0), last = bytes_per_rank(spec, 1);
  ASSERT_GT(first.gradients + first.activations, last.gradients + last.activations) << "of two micro-batches";
  EXPECT_EQ(tensor_bytes_per_worker(spec), first.total() + last.parameters + last.optimizer);
}

TEST(TensorBytesPerWorker, AreOfTheWorkerWhoseRanksTakeMost) {
  auto spec = job_on_cpus(2, 1);
  spec.parallelism.pipeline = 2;
  spec.model.size->vocabularySize = 65'536;
  spec.data.sequenceLength = 512;  // so that logits are most
  EXPECT_EQ(tensor_bytes_per_worker(spec), most_bytes_per_rank(spec).total());
  EXPECT_LT(bytes_per_rank(spec, 0).total(), bytes_per_rank(spec, 1).total()) << "not the first one";
}

TEST(TensorBytesPerWorker, HaveHalfOfWhatComesAndGoesWhereThatIsForetoldRoughly) {
  auto spec = job_on_cpus(4, 1);
  spec.parallelism.pipeline = 2;
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kZeroBubble;
  const auto first = bytes_per_rank(spec, 0), last = bytes_per_rank(spec, 1);
  const auto half = [](const RankBytes& bytes) { return bytes.total() - (bytes.gradients + bytes.activations + 1) / 2; };
  EXPECT_EQ(tensor_bytes_per_worker(spec), std::max(half(first), half(last)));
  spec.workers.count = 2;  // no data ranks
  spec.training.globalBatchSize /= 2;
  EXPECT_EQ(tensor_bytes_per_worker(spec), most_bytes_per_rank(spec).total());
}

TEST(TensorBytesPerWorker, HaveTheWeightsThatAreGatheredOfOneStageAlone) {
  auto spec = job_on_cpus(1, 4);
  spec.parallelism.pipeline = 2;
  spec.parallelism.zero.stage = 3;
  const auto first = bytes_per_rank(spec, 0), last = bytes_per_rank(spec, 1);
  const auto at_times = [](const RankBytes& bytes) { return bytes.parameters + bytes.gradients + bytes.activations; };
  const std::int64_t always = 2 * (first.total() - at_times(first) + last.total() - at_times(last));
  EXPECT_EQ(tensor_bytes_per_worker(spec), always + 2 * std::max(at_times(first), at_times(last)));
}

}  // namespace
}  // namespace trainyard::plan
