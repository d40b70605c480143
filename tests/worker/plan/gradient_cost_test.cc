#include "worker/plan/gradient_cost.h"

#include <gtest/gtest.h>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

using contract::PipelineScheduleName;
using contract::Reduction;

constexpr std::int64_t kElements = 400;
/// No two alike, so that none stands for another.
const ZeroMemory kZero{.shard_sums = 1000, .unit = 50, .exchanges = 16};

/// In BF16, of micro-batches of one sample.
contract::TrainingJobSpec job_with_reduction(Reduction reduction, std::int32_t micro_batches, std::int32_t data = 1,
                                             std::int32_t stage = 0) {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{.layers = 4, .hiddenSize = 8, .heads = 2, .feedForwardSize = 8, .vocabularySize = 8};
  spec.data.sequenceLength = 4;
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.training.reduction = reduction;
  spec.training.globalBatchSize = micro_batches * data;
  spec.workers.count = data;
  spec.parallelism.zero.stage = stage;
  return spec;
}

contract::TrainingJobSpec in_two_stages(contract::TrainingJobSpec spec, PipelineScheduleName name) {
  spec.workers.count *= 2;
  spec.parallelism.pipeline = 2;
  spec.parallelism.pipelineSchedule = {.name = name, .virtualStages = name == PipelineScheduleName::kInterleaved ? 2 : 1};
  return spec;
}

GradientCost whole(const contract::TrainingJobSpec& spec) { return {spec, kElements, std::nullopt}; }
GradientCost sharded(const contract::TrainingJobSpec& spec) { return {spec, kElements, kZero}; }

TEST(GradientCost, OfWholeGradientsIsOneSumUnderFastAndWhatAMicroBatchAdds) {
  const auto cost = whole(job_with_reduction(Reduction::kFast, 8));
  EXPECT_EQ(cost.as_it_begins(0), 0);
  EXPECT_EQ(cost.as_it_begins(1), 1600);
  EXPECT_EQ(cost.as_it_begins(7), 1600);
  EXPECT_EQ(cost.as_it_ends(0), 1600) << "which become the sum";
  EXPECT_EQ(cost.as_it_ends(3), 1600 + 800);
}

TEST(GradientCost, OfWholeGradientsUnderCanonicalIsASumForEachDigitOneOfThoseDone) {
  const auto cost = whole(job_with_reduction(Reduction::kCanonical, 8));
  EXPECT_EQ(cost.as_it_begins(0), 0);
  EXPECT_EQ(cost.as_it_begins(1), 800) << "the sum of one is in BF16 still";
  EXPECT_EQ(cost.as_it_begins(2), 1600);
  EXPECT_EQ(cost.as_it_begins(3), 1600 + 800);
  EXPECT_EQ(cost.as_it_begins(7), 2 * 1600 + 800);
  EXPECT_EQ(cost.as_it_ends(0), 800);
  EXPECT_EQ(cost.as_it_ends(3), 2 * 1600 + 800);
  EXPECT_EQ(cost.as_it_ends(7), 3 * 1600 + 800);
  EXPECT_EQ(whole(job_with_reduction(Reduction::kCanonical, 1)).as_it_ends(0), 1600) << "there is nothing to add it to";
}

TEST(GradientCost, OfAMicroBatchIsThatOfAChunkInAnInterleavedStage) {
  const auto cost = whole(in_two_stages(job_with_reduction(Reduction::kFast, 8), PipelineScheduleName::kInterleaved));
  EXPECT_EQ(cost.as_it_ends(3), 1600 + 400);
}

TEST(GradientCost, OfShardsInASplitBackwardHasAllOfAMicroBatchAtOnce) {
  const auto split = [](std::int32_t stage, Reduction reduction = Reduction::kFast) {
    return sharded(in_two_stages(job_with_reduction(reduction, 8, 2, stage), PipelineScheduleName::kZeroBubble));
  };
  const auto of_sum = split(1);
  EXPECT_EQ(of_sum.as_it_begins(0), 0);
  EXPECT_EQ(of_sum.as_it_begins(7), 1600);
  EXPECT_EQ(of_sum.as_it_ends(0), 1600 + 800) << "the sum";
  EXPECT_EQ(of_sum.as_it_ends(3), 1600 + 4 * 50 + 800);
  EXPECT_EQ(of_sum.as_it_ends(7), 1600 + 800 + 16);
  const auto of_each = split(2);
  EXPECT_EQ(of_each.as_it_begins(0), 0);
  EXPECT_EQ(of_each.as_it_begins(1), 1000);
  EXPECT_EQ(of_each.as_it_ends(7), 1000 + 2 * 50 + 16 + 800);
  const auto canonical = split(2, Reduction::kCanonical);
  EXPECT_EQ(canonical.as_it_begins(7), 3 * 1600) << "in FP32";
  EXPECT_EQ(canonical.as_it_ends(1), 1600 + 4 * 50 + 800);
  EXPECT_EQ(canonical.as_it_ends(2), 2 * 1600 + 800);
}

}  // namespace
}  // namespace trainyard::plan
