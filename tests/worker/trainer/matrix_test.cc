// The equality matrix: tensor, pipeline and data degrees up to 8 ranks × ZeRO stage × micro-batches × schedule × recomputation × sequence
// parallelism, with both reductions. Covering sets of all pairs by default; all of it with TRAINYARD_MATRIX=all (`make matrix`).
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "crds/contract/validate.h"
#include "tests/worker/trainer/covering_set.h"
#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {
namespace {

using contract::PipelineScheduleName;
using contract::RecomputeMode;
using contract::Reduction;

bool wants_all() {
  const char* const wanted = std::getenv("TRAINYARD_MATRIX");
  return wanted != nullptr && std::string(wanted) == "all";
}

/// So many steps are compared where every bit is to be equal, and where losses are to stay close.
constexpr std::int64_t kBitSteps = 4;
const std::int64_t kCloseSteps = wants_all() ? 100 : 40;

struct LayoutChoice {
  contract::Degrees degrees;
  std::int32_t zero, micro_batch_size;
  PipelineScheduleName schedule;
  RecomputeMode recomputation;
  bool sequence;
  Reduction reduction;

  LayoutChoice(const Combination& values, Reduction sums)
      : degrees{.pp = values[0], .dp = values[1], .tp = values[2]},
        zero(values[3]),
        micro_batch_size(values[4]),
        schedule(static_cast<PipelineScheduleName>(values[5])),
        recomputation(static_cast<RecomputeMode>(values[6])),
        sequence(values[7] != 0),
        reduction(sums) {}

  std::string text() const {
    return "pp " + std::to_string(degrees.pp) + ", dp " + std::to_string(degrees.dp) + ", tp " + std::to_string(degrees.tp) +
           ", zero " + std::to_string(zero) + ", " + std::string(contract::name_of(schedule)) + ", recomputation " +
           std::string(contract::name_of(recomputation)) + (sequence ? ", sequence" : "") + ", micro-batches of " +
           std::to_string(micro_batch_size) + ", " + std::string(contract::name_of(reduction));
  }
};

bool is_power_of_two(std::int32_t number) { return std::has_single_bit(static_cast<std::uint32_t>(number)); }

/// The job as one process trains it; with the same micro-batches, so that the sums have the same terms.
contract::TrainingJobSpec plain_job(const LayoutChoice& choice, std::int64_t steps) {
  auto spec = small_job(choice.reduction);
  auto& size = *spec.model.size;
  size.keyValueHeads = 4;  // for four tensor ranks
  size.vocabularySize = 257;
  const std::int32_t parts = choice.degrees.pp * (choice.schedule == PipelineScheduleName::kInterleaved ? 2 : 1);
  size.layers = parts <= 2 ? 3 : parts <= 4 ? 5 : parts <= 6 ? 7 : parts <= 8 ? 9 : parts + 1;  // no even split
  const std::int32_t most = std::max(choice.degrees.pp, choice.degrees.dp);
  spec.training.globalBatchSize = is_power_of_two(most) ? 8 : most == 3 ? 12 : 2 * most;
  spec.training.steps = steps;
  spec.training.learningRateSchedule.warmupSteps = 2;
  spec.parallelism.microBatchSize = choice.micro_batch_size;
  spec.data.train = {{.path = "/data"}};
  return spec;
}

contract::TrainingJobSpec parallel_job(const LayoutChoice& choice, std::int64_t steps) {
  auto spec = plain_job(choice, steps);
  layout_of(spec, choice.degrees);
  spec.parallelism.zero.stage = choice.zero;
  spec.parallelism.pipelineSchedule = {.name = choice.schedule,
                                       .virtualStages = choice.schedule == PipelineScheduleName::kInterleaved ? 2 : 1};
  spec.training.activationCheckpointing.mode = choice.recomputation;
  spec.parallelism.sequence = choice.sequence;
  return spec;
}

/// Whether the sums over micro-batches and ranks are the one process's: docs/numerics.md, "The gradient of a step".
bool has_equal_bits(const LayoutChoice& choice) {
  const auto batch = static_cast<std::int32_t>(plain_job(choice, 1).training.globalBatchSize);
  const std::int32_t dp = choice.degrees.dp;
  return choice.reduction == Reduction::kCanonical &&
         (dp == 1 || (is_power_of_two(dp) && is_power_of_two(batch / dp / choice.micro_batch_size)));
}

/// What a user may ask for, but for what is the same as another: one stage has no schedule, one data rank no shards.
std::vector<Combination> layout_combinations(Reduction reduction) {
  std::vector<Combination> out;
  const auto add = [&](Combination values) {
    const LayoutChoice choice(values, reduction);
    if (choice.degrees.pp == 1 && choice.schedule != PipelineScheduleName::kOneForwardOneBackward) return;
    if (choice.degrees.dp == 1 && choice.zero > 0) return;
    if (contract::validate(parallel_job(choice, kBitSteps)).empty()) out.push_back(std::move(values));
  };
  for (int pp = 1; pp <= 8; ++pp) {
    for (int dp = 1; dp <= 8; ++dp) {
      for (const int tp : {1, 2, 4}) {
        if (pp * dp * tp > 8) continue;
        for (int rest = 0; rest < 4 * 2 * 4 * 3 * 2; ++rest) {
          add({pp, dp, tp, rest % 4, rest / 4 % 2 + 1, rest / 8 % 4, rest / 32 % 3, rest / 96});
        }
      }
    }
  }
  return out;
}

/// Trainings to compare with, each done once.
class References {
 public:
  /// One process, or only the tensor ranks of one.
  const Trained& of(const LayoutChoice& choice, std::int32_t tp, std::int64_t steps) {
    auto spec = plain_job(choice, steps);
    spec.parallelism.sequence = tp > 1 && choice.sequence;
    const std::string key = contract::encode(spec).dump() + std::to_string(tp);
    const auto known = done_.find(key);
    return known != done_.end() ? known->second : done_.emplace(key, train(spec, {.tp = tp})).first->second;
  }

 private:
  std::map<std::string, Trained> done_;
};

std::vector<Combination> to_train(Reduction reduction) {
  const auto all = layout_combinations(reduction);
  auto chosen = wants_all() ? all : covering_set(all);
  EXPECT_GE(covering_set(all).size(), 20u);
  EXPECT_LE(covering_set(all).size(), 65u);
  std::printf("%s: %zu of %zu layouts\n", std::string(contract::name_of(reduction)).c_str(), chosen.size(), all.size());
  return chosen;
}

// With tensor parallelism the sums within a layer are others: there, the tensor ranks alone are what is compared with.
TEST(Matrix, UnderCanonicalLayoutsEqualOneProcessBitForBit) {
  References references;
  int num_equal = 0;
  for (const auto& values : to_train(Reduction::kCanonical)) {
    const LayoutChoice choice(values, Reduction::kCanonical);
    SCOPED_TRACE(choice.text());
    if (has_equal_bits(choice)) {
      const auto trained = train(parallel_job(choice, kBitSteps), choice.degrees);
      expect_equal_bits(trained, references.of(choice, choice.degrees.tp, kBitSteps));
      ++num_equal;
    } else {
      expect_near(train(parallel_job(choice, kCloseSteps), choice.degrees), references.of(choice, 1, kCloseSteps));
    }
  }
  EXPECT_GE(num_equal, 20);
  for (const int tp : {2, 4}) {
    for (const int sequence : {0, 1}) {
      const LayoutChoice choice({1, 1, tp, 0, 1, 0, 0, sequence}, Reduction::kCanonical);
      SCOPED_TRACE(choice.text());
      expect_near(references.of(choice, tp, kCloseSteps), references.of(choice, 1, kCloseSteps));
    }
  }
}

TEST(Matrix, UnderFastLayoutsStayCloseToOneProcess) {
  References references;
  for (const auto& values : to_train(Reduction::kFast)) {
    const LayoutChoice choice(values, Reduction::kFast);
    SCOPED_TRACE(choice.text());
    expect_near(train(parallel_job(choice, kCloseSteps), choice.degrees), references.of(choice, 1, kCloseSteps));
  }
}

}  // namespace
}  // namespace trainyard::trainer
