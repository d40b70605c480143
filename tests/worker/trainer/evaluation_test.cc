#include "worker/trainer/evaluation.h"

#include <gtest/gtest.h>

#include "tests/worker/trainer/small_job.h"

namespace trainyard::trainer {
namespace {

TEST(EvaluationShare, CoversTheSameMicroBatchesOnceHoweverManyRanksThereAre) {
  auto spec = small_job();
  for (const std::int32_t micro_batch : {1, 4, 8}) {
    spec.parallelism.microBatchSize = micro_batch;
    for (const std::int64_t samples : {1, 3, 8, 31, 100}) {
      for (std::int32_t dp = 1; dp <= 8; ++dp) {
        std::int64_t next = 0;
        for (std::int32_t rank = 0; rank < dp; ++rank) {
          const auto share = evaluation_share(spec, samples, dp, rank);
          EXPECT_EQ(share.first, next);
          EXPECT_LE(share.count, share.most);
          EXPECT_EQ(share.most, (share.total + dp - 1) / dp);
          next += share.count;
          EXPECT_EQ(share.total, std::max<std::int64_t>(1, samples / micro_batch));
        }
        EXPECT_EQ(next, evaluation_share(spec, samples, dp, 0).total);
      }
    }
  }
}

TEST(EvaluationShare, ReadsAtMostTheBatchesThatAreAskedFor) {
  auto spec = small_job();  // of 8 sequences
  spec.evaluation = contract::Evaluation{.everySteps = 1, .batches = 2};
  EXPECT_EQ(evaluation_share(spec, 1000, 1, 0), (EvaluationShare{.first = 0, .count = 16, .most = 16, .size = 1, .total = 16}));
  EXPECT_EQ(evaluation_share(spec, 5, 1, 0).total, 5);
}

TEST(EvaluationShare, HasSmallerMicroBatchesWhereThereAreFewSamples) {
  auto spec = small_job();
  spec.parallelism.microBatchSize = 8;
  EXPECT_EQ(evaluation_share(spec, 3, 1, 0), (EvaluationShare{.first = 0, .count = 1, .most = 1, .size = 3, .total = 1}));
}

}  // namespace
}  // namespace trainyard::trainer
