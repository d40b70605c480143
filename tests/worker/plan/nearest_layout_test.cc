#include "worker/plan/nearest_layout.h"

#include <algorithm>
#include <ctime>
#include <functional>
#include <set>

#include <gtest/gtest.h>

#include "crds/contract/validate.h"

namespace trainyard::plan {
namespace {

using contract::RecomputeMode;
using contract::TrainingJobSpec;

/// Two workers of four GPUs.
TrainingJobSpec job_on_two_workers() {
  TrainingJobSpec spec;
  spec.workers.count = 2;
  spec.workers.gpusPerWorker = 4;
  spec.model.size =
      contract::ModelSize{.layers = 8, .hiddenSize = 512, .heads = 8, .feedForwardSize = 1024, .vocabularySize = 1000};
  spec.data.train = {{.path = "/data/train"}};
  spec.data.sequenceLength = 512;
  spec.training.steps = 10;
  spec.training.optimizer.learningRate = 1e-3;
  spec.training.globalBatchSize = 64;
  spec.parallelism.microBatchSize = 4;
  return spec;
}

bool fits(const TrainingJobSpec& spec, const MemoryRoom& room, bool asks_for_more = false) {
  const auto bytes = most_bytes_per_rank(spec);
  return bytes.total() <= room.device && host_bytes_per_worker(spec, bytes) <= (asks_for_more ? room.host_most : room.host);
}

/// In the order of the header, which decides between layouts with as many changes.
std::vector<std::string> changed_fields(const TrainingJobSpec& a, const TrainingJobSpec& b, bool asks_for_more) {
  std::vector<std::string> out;
  const auto add = [&out](bool differs, const char* name) {
    if (differs) out.emplace_back(name);
  };
  const auto &p = a.parallelism, &q = b.parallelism;
  const auto &c = a.training.activationCheckpointing, &d = b.training.activationCheckpointing;
  add(p.microBatchSize != q.microBatchSize, "0 micro-batch");
  add(c.mode != d.mode, "1 mode");
  add(p.zero.stage != q.zero.stage, "2 stage");
  add(p.zero.offload.optimizer != q.zero.offload.optimizer, "3 optimizer");
  add(p.zero.offload.parameters != q.zero.offload.parameters, "4 parameters");
  add(c.offload != d.offload, "5 activations");
  add(p.pipelineSchedule.name != q.pipelineSchedule.name, "6 schedule");
  add(p.tensor != q.tensor, "7 tensor");
  add(p.pipeline != q.pipeline, "8 pipeline");
  add(asks_for_more, "9 memory");
  return out;
}

/// Every layout of the job's ranks that may be proposed for it.
void each_layout(const TrainingJobSpec& from, const std::function<void(const TrainingJobSpec&)>& visit) {
  const auto& now = from.training.activationCheckpointing;
  for (std::int32_t micro = 1; micro <= from.parallelism.microBatchSize; ++micro) {
    if (from.parallelism.microBatchSize % micro != 0) continue;
    for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kSelective, RecomputeMode::kFull}) {
      const bool is_weaker = (now.mode == RecomputeMode::kFull && mode != RecomputeMode::kFull) ||
                             (now.mode == RecomputeMode::kSelective && mode == RecomputeMode::kNone);
      if (is_weaker) continue;
      for (std::int32_t bits = 0; bits < 8; ++bits) {
        for (std::int32_t stage = from.parallelism.zero.stage; stage <= 3; ++stage) {
          for (std::int32_t tensor = 1; tensor <= 4; tensor *= 2) {
            for (std::int32_t pipeline = 1; pipeline <= 8; pipeline *= 2) {
              for (const bool plain : {false, true}) {
                auto spec = from;
                spec.parallelism.microBatchSize = micro;
                spec.training.activationCheckpointing.mode = mode;
                spec.training.activationCheckpointing.offload |= (bits & 1) != 0;
                spec.parallelism.zero.stage = stage;
                spec.parallelism.zero.offload.optimizer |= (bits & 2) != 0;
                spec.parallelism.zero.offload.parameters |= (bits & 4) != 0;
                spec.parallelism.tensor = tensor;
                spec.parallelism.pipeline = pipeline;
                if (plain) spec.parallelism.pipelineSchedule = {};
                if (contract::validate(spec).empty()) visit(spec);
              }
            }
          }
        }
      }
    }
  }
}

class TheNearestLayout : public ::testing::TestWithParam<int> {};

TEST_P(TheNearestLayout, IsThatOfAnExhaustiveSearch) {
  auto spec = job_on_two_workers();
  spec.workers.gpusPerWorker = 4;
  if (GetParam() % 2 == 1) {
    spec.parallelism.pipeline = 2;
    spec.parallelism.pipelineSchedule = {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 2};
  }
  if (GetParam() % 3 == 2) spec.training.activationCheckpointing.mode = RecomputeMode::kSelective;
  ASSERT_TRUE(contract::validate(spec).empty()) << to_text(contract::validate(spec));
  struct Layout {
    RankBytes bytes;
    std::int64_t host = 0;  // of a worker
    std::vector<std::string> changed;
    bool asks_for_more = false;
  };
  std::vector<Layout> layouts;
  each_layout(spec, [&](const TrainingJobSpec& layout) {
    const auto bytes = most_bytes_per_rank(layout);
    for (const bool more : {false, true}) {
      layouts.push_back({bytes, host_bytes_per_worker(layout, bytes), changed_fields(spec, layout, more), more});
    }
  });
  const auto bytes = most_bytes_per_rank(spec);
  std::set<std::size_t> numbers;
  for (int twentieths = 19; twentieths >= 1; twentieths -= 3) {
    MemoryRoom room{.device = bytes.total() * twentieths / 20, .host = 0, .host_most = 0};
    if (GetParam() >= 3) room.host = std::int64_t{100} << 20;
    if (GetParam() >= 4) room.host_most = std::int64_t{1} << 30;
    std::vector<std::string> least;  // changes
    bool any = false;
    for (const auto& layout : layouts) {
      const std::int64_t host = layout.asks_for_more ? room.host_most : room.host;
      if (layout.bytes.total() > room.device || layout.host > host) continue;
      if (layout.asks_for_more && room.host_most <= room.host) continue;
      const auto& changed = layout.changed;
      if (!any || std::pair(changed.size(), changed) < std::pair(least.size(), least)) least = changed;
      any = true;
    }
    const auto found = nearest_layout(spec, room);
    ASSERT_EQ(found.has_value(), any) << twentieths;
    if (!found) continue;
    if (!found->is_nearest) {
      EXPECT_GE(least.size(), 4u) << "few changes are all tried";
      EXPECT_TRUE(fits(found->spec, room, found->host_more > 0));
      continue;
    }
    EXPECT_EQ(changed_fields(spec, found->spec, found->host_more > 0), least) << twentieths;
    EXPECT_TRUE(fits(found->spec, room, found->host_more > 0));
    EXPECT_EQ(found->bytes, most_bytes_per_rank(found->spec));
    EXPECT_EQ(contract::validate(found->spec).size(), 0u);
    numbers.insert(least.size());
  }
  EXPECT_GE(numbers.size(), 2u) << "one change or several, as the room wants it";
}
INSTANTIATE_TEST_SUITE_P(OfSmallJobs, TheNearestLayout, ::testing::Range(0, 6));

TEST(NearestLayout, TakesTheValueNearestToThePresentOne) {
  auto spec = job_on_two_workers();
  const auto two = [&spec] {
    auto smaller = spec;
    smaller.parallelism.microBatchSize = 2;
    return most_bytes_per_rank(smaller).total();
  }();
  const auto found = nearest_layout(spec, {.device = two});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->changes, (std::vector<Change>{{"parallelism.microBatchSize", "2"}})) << "and not 1";
}

TEST(NearestLayout, PrefersRecomputationToSmallerMicroBatchesWhereZeroSendsForEach) {
  auto spec = job_on_two_workers();
  auto recomputed = spec;
  recomputed.training.activationCheckpointing.mode = RecomputeMode::kSelective;
  for (const std::int32_t stage : {1, 3}) {
    spec.parallelism.zero.stage = recomputed.parallelism.zero.stage = stage;
    const auto found = nearest_layout(spec, {.device = most_bytes_per_rank(recomputed).total()});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->changes.front(), stage == 3 ? (Change{"training.activationCheckpointing.mode", "Selective"})
                                                 : (Change{"parallelism.microBatchSize", "2"}));
  }
}

TEST(NearestLayout, SharesTheTokensFirstWhereThereAreTensorRanks) {
  auto spec = job_on_two_workers();
  spec.parallelism.tensor = 2;
  auto shared = spec;
  shared.parallelism.sequence = true;
  const MemoryRoom room{.device = most_bytes_per_rank(shared).total()};
  ASSERT_GT(most_bytes_per_rank(spec).total(), room.device);
  const auto found = nearest_layout(spec, room);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->changes, (std::vector<Change>{{"parallelism.sequence", "true"}}));
  spec.data.sequenceLength = shared.data.sequenceLength = 511;
  const auto other = nearest_layout(spec, {.device = most_bytes_per_rank(shared).total()});
  ASSERT_TRUE(other);
  EXPECT_FALSE(other->spec.parallelism.sequence) << "two ranks can't share 511 tokens";
}

TEST(NearestLayout, LetsDataFollowTheOtherDegrees) {
  auto spec = job_on_two_workers();
  spec.parallelism.microBatchSize = 1;
  spec.parallelism.zero = {.stage = 3, .offload = {.parameters = true, .optimizer = true}};
  spec.parallelism.data = 8;
  spec.training.activationCheckpointing = {.mode = RecomputeMode::kFull, .offload = true};
  const auto found = nearest_layout(spec, {.device = most_bytes_per_rank(spec).total() * 9 / 10, .host = std::int64_t{1} << 40});
  ASSERT_TRUE(found);
  EXPECT_TRUE(contract::validate(found->spec).empty());
  EXPECT_EQ(found->changes, (std::vector<Change>{{"parallelism.tensor", "2"}, {"parallelism.data", "4"}}));
}

TEST(NearestLayout, SaysHowMuchMemoryThePodsHaveToAskFor) {
  auto spec = job_on_two_workers();
  spec.parallelism.zero.stage = 3;
  spec.parallelism.zero.offload = {.parameters = true, .optimizer = true};
  const auto need = host_bytes_per_worker(spec, most_bytes_per_rank(spec));
  const auto found = nearest_layout(spec, {.host = 0, .host_most = need});
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->changes.empty());
  EXPECT_EQ(found->host_more, need);
}

TEST(NearestLayout, IsNoneWhereNoneFits) {
  EXPECT_FALSE(nearest_layout(job_on_two_workers(), {.device = 1 << 20, .host = std::int64_t{1} << 40}));
}

TEST(NearestLayout, IsSoughtWithinBoundsAndThenOnlyMadeNotLargerThanNeeded) {
  // 1,024 ranks and micro-batches of 64: more layouts than are tried.
  auto spec = job_on_two_workers();
  spec.workers.count = 128;
  spec.workers.gpusPerWorker = 8;
  spec.model.size = contract::ModelSize{
      .layers = 96, .hiddenSize = 8192, .heads = 64, .keyValueHeads = 8, .feedForwardSize = 28672, .vocabularySize = 128256};
  spec.parallelism.microBatchSize = 64;
  spec.training.globalBatchSize = 64 * 1024;
  spec.data.sequenceLength = 8192;
  spec.data.train.front().format = contract::SourceFormat::kUInt32;
  ASSERT_TRUE(contract::validate(spec).empty());
  const MemoryRoom room{.device = std::int64_t{12} << 30, .host = std::int64_t{1} << 40};
  const auto found = nearest_layout(spec, room);
  ASSERT_TRUE(found);
  EXPECT_TRUE(fits(found->spec, room));
  EXPECT_TRUE(contract::validate(found->spec).empty());
  auto back = found->spec;
  back.parallelism.microBatchSize = 64;
  EXPECT_FALSE(fits(back, room)) << "that change is needed";
}

TEST(NearestLayout, IsLookedForAsQuicklyWhereAStepHasTenMillionMicroBatches) {
  auto spec = job_on_two_workers();
  spec.parallelism.pipeline = 2;
  spec.parallelism.microBatchSize = 1;
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kGPipe;
  spec.training.globalBatchSize = 10'000'000;
  const auto began = std::clock();
  EXPECT_FALSE(nearest_layout(spec, {.device = 1000}));
  EXPECT_LT(static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC, 10) << "seconds; a loop over them takes minutes";
}

}  // namespace
}  // namespace trainyard::plan
