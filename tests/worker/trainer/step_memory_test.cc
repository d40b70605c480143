// The most memory that a whole step takes is what the plan foretells (worker/plan/cost.h).
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "crds/contract/validate.h"
#include "tests/worker/mesh/mirror_comm.h"
#include "tests/worker/model/live_bytes.h"
#include "tests/worker/trainer/covering_set.h"
#include "tests/worker/trainer/small_job.h"
#include "worker/plan/cost.h"
#include "worker/plan/zero_cost.h"
#include "worker/trainer/engine.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;
using contract::PipelineScheduleName;
using contract::Reduction;

constexpr double kBound = 0.01;
/// Where every choice meets every other.
constexpr double kOfPairs = 0.02;

/// So large that nothing but what is counted matters.
contract::TrainingJobSpec large_job(ComputePrecision precision, Reduction reduction, std::int32_t micro_batches,
                                    std::int32_t data) {
  auto spec = small_job(reduction);
  spec.model.size = contract::ModelSize{
      .layers = 8, .hiddenSize = 128, .heads = 4, .keyValueHeads = 2, .feedForwardSize = 384, .vocabularySize = 1000};
  spec.data.sequenceLength = 64;
  spec.training.precision.compute = precision;
  spec.training.globalBatchSize = micro_batches * data;
  return spec;
}

std::string description_of(const contract::TrainingJobSpec& spec) {
  std::ostringstream out;
  out << contract::name_of(spec.training.precision.compute) << ' ' << contract::name_of(spec.training.reduction) << ", "
      << plan::micro_batches_per_step(spec) << " micro-batches of " << spec.data.sequenceLength << " tokens, stage "
      << spec.parallelism.zero.stage << " of ZeRO, " << contract::degrees(spec).dp << " data ranks, "
      << contract::name_of(spec.parallelism.pipelineSchedule.name) << " of " << spec.parallelism.pipeline << ", tensor "
      << spec.parallelism.tensor << ", recomputation " << contract::name_of(spec.training.activationCheckpointing.mode);
  return out.str();
}

/// Of the second step of a rank.
std::int64_t measured(const contract::TrainingJobSpec& spec, const contract::Layout& layout, std::int32_t stage,
                      std::unique_ptr<mesh::HostLink> link = nullptr) {
  at::set_num_threads(1);
  const test::LiveBytes live;
  const std::int64_t before = test::LiveBytes::now();
  auto mesh = mesh::mirrored(layout, stage, std::move(link));
  Engine engine(spec, mesh, 2);
  engine.initialize();
  engine.step(made_up_input(spec, mesh, 0));
  test::LiveBytes::take_peak();
  engine.step(made_up_input(spec, mesh, 1));
  return test::LiveBytes::take_peak() - before;
}

/// The host's memory, apart from what LiveBytes counts, so that this is what the device takes.
class ApartLink final : public mesh::HostLink {
 public:
  at::Tensor memory(at::IntArrayRef sizes, at::ScalarType type) override { return apart(sizes, type); }
  at::Tensor passing_memory(at::IntArrayRef sizes, at::ScalarType type) override { return apart(sizes, type); }
  std::unique_ptr<mesh::Crossing> start(mesh::Way way, std::function<void()> work) override {
    return inner_->start(way, std::move(work));
  }
  std::int64_t block_elements() const override { return inner_->block_elements(); }

 private:
  static at::Tensor apart(at::IntArrayRef sizes, at::ScalarType type) {
    const auto bytes = static_cast<std::size_t>(c10::multiply_integers(sizes)) * c10::elementSize(type);
    const auto memory = std::make_shared<std::vector<std::uint8_t>>(bytes);
    return at::from_blob(
        memory->data(), sizes, [memory](void* /*address*/) {}, at::TensorOptions(type));
  }
  std::unique_ptr<mesh::HostLink> inner_ = mesh::host_link(at::kCPU);
};

class StepMemory : public testing::Test {
 protected:
  void expect_foretold(contract::TrainingJobSpec spec, contract::Degrees degrees, std::int32_t stage = 0, double bound = kBound) {
    const auto layout = layout_of(spec, degrees);
    const auto foretold = plan::bytes_per_rank(spec, stage);
    const std::int64_t found = measured(spec, layout, stage);
    const double ratio = static_cast<double>(foretold.total()) / static_cast<double>(found);
    EXPECT_GT(ratio, 1 - bound) << description_of(spec) << ", stage " << stage << ": " << found;
    EXPECT_LT(ratio, 1 + bound) << description_of(spec) << ", stage " << stage << ": " << found;
    auto& [least, most] = seen_[std::string(contract::name_of(spec.training.precision.compute))];
    least = std::min(least, ratio);
    most = std::max(most, ratio);
  }
  void TearDown() override {
    for (const auto& [precision, range] : seen_) {
      std::printf("%s: foretold is %.4f to %.4f of what was found\n", precision.c_str(), range.least, range.most);
    }
  }

 private:
  struct Range {
    double least = 1, most = 1;
  };
  std::map<std::string, Range> seen_;
};

TEST_F(StepMemory, OfOneRankIsForetold) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
      for (const std::int32_t micro_batches : {1, 3, 8}) {
        for (const std::int32_t length : {16, 64, 512}) {  // gradients are most, or activations
          auto spec = large_job(precision, reduction, micro_batches, 1);
          spec.data.sequenceLength = length;
          expect_foretold(spec, {});
        }
      }
    }
  }
}

TEST_F(StepMemory, OfADataRankIsForetoldAtEveryStageOfZero) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
      for (const std::int32_t micro_batches : {1, 3, 8}) {
        for (const std::int32_t stage : {0, 1, 2, 3}) {
          auto spec = large_job(precision, reduction, micro_batches, 4);
          spec.parallelism.zero.stage = stage;
          expect_foretold(spec, {.dp = 4});
        }
      }
    }
  }
}

/// Tied and not, where gradients are most and where activations are.
TEST_F(StepMemory, OfADataRankThatKeepsAllIsForetold) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
      for (const std::int32_t micro_batches : {1, 2, 3, 8}) {
        for (const std::int32_t length : {16, 512}) {
          for (const bool tied : {false, true}) {
            auto spec = large_job(precision, reduction, micro_batches, 4);
            spec.data.sequenceLength = length;
            spec.model.size->tieEmbeddings = tied;
            expect_foretold(spec, {.dp = 4});
          }
        }
      }
    }
  }
}

/// A sum that is in BF16 turns into FP32 when the next micro-batch is added to it: of an embedding, which is one tensor, all at once. Of nine
/// micro-batches the eighth takes most.
TEST_F(StepMemory, OfADataRankThatKeepsAllIsForetoldWithALargeEmbedding) {
  for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
    for (const std::int32_t classes : {4000, 16000}) {
      for (const std::int32_t micro_batches : {2, 5, 9}) {
        for (const bool tied : {false, true}) {
          auto spec = large_job(ComputePrecision::kBF16, reduction, micro_batches, 2);
          spec.data.sequenceLength = 16;  // so that gradients are most
          spec.model.size->tieEmbeddings = tied;
          spec.model.size->vocabularySize = classes;
          expect_foretold(spec, {.dp = 2});
        }
      }
    }
  }
}

/// Of 8,960,000 numbers, in three parts of which two are under way.
TEST_F(StepMemory, OfADataRankThatGathersAnEmbeddingInPartsIsForetold) {
  for (const bool tied : {false, true}) {
    auto spec = large_job(ComputePrecision::kFP32, Reduction::kCanonical, 1, 2);
    spec.data.sequenceLength = 16;
    spec.model.size->tieEmbeddings = tied;
    spec.model.size->vocabularySize = 70'000;
    ASSERT_GT(spec.model.size->vocabularySize * spec.model.size->hiddenSize, 2 * plan::kGatheredElements);
    expect_foretold(spec, {.dp = 2});
  }
}

TEST_F(StepMemory, OfADataRankThatKeepsAllIsForetoldInEverySchedule) {
  for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
    for (const auto name : {PipelineScheduleName::kOneForwardOneBackward, PipelineScheduleName::kZeroBubble}) {
      for (const std::int32_t stage : {0, 1}) {
        auto spec = large_job(ComputePrecision::kFP32, reduction, 4, 2);
        spec.parallelism.pipelineSchedule.name = name;
        spec.data.sequenceLength = 16;  // so that gradients are most
        expect_foretold(spec, {.pp = 2, .dp = 2}, stage);
      }
    }
  }
}

TEST_F(StepMemory, IsForetoldWithTheOptimizerOffloaded) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
      for (const std::int32_t micro_batches : {1, 3}) {
        for (const std::int32_t stage : {1, 2, 3}) {
          for (const std::int32_t data : {1, 4}) {
            auto spec = large_job(precision, reduction, micro_batches, data);
            spec.parallelism.zero = {.stage = stage, .offload = {.optimizer = true}};
            expect_foretold(spec, {.dp = data});
          }
        }
      }
    }
  }
}

/// That of the plan's one memory less what it says of a host.
TEST_F(StepMemory, OfTheDeviceIsForetoldWithTheOptimizerOffloaded) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const std::int32_t micro_batches : {1, 3}) {
      for (const std::int32_t stage : {1, 2, 3}) {
        for (const std::int32_t data : {1, 4}) {
          auto spec = large_job(precision, Reduction::kFast, micro_batches, data);
          spec.data.sequenceLength = 16;
          spec.parallelism.zero = {.stage = stage, .offload = {.optimizer = true}};
          const auto layout = layout_of(spec, {.dp = data});
          const std::int64_t found = measured(spec, layout, 0, std::make_unique<ApartLink>());
          const std::int64_t all = plan::bytes_per_rank(spec, 0).total();
          spec.workers.gpusPerWorker = 1;
          const std::int64_t foretold = all - plan::bytes_per_rank(spec, 0).host;
          EXPECT_NEAR(static_cast<double>(foretold) / static_cast<double>(found), 1, kBound)
              << description_of(spec) << ": " << found << ", foretold " << foretold;
        }
      }
    }
  }
}

/// Of a rank alone the gradients were 4 bytes a parameter: the largest memory that a step had beside the weights.
TEST_F(StepMemory, OfTheDeviceHasNoSumsOfGradientsBetweenMicroBatchesThatAreOffloaded) {
  auto spec = large_job(ComputePrecision::kBF16, Reduction::kFast, 3, 1);
  spec.data.sequenceLength = 16;
  spec.model.size->layers = 32;
  const auto on_device = [&](std::int32_t stage) {
    spec.parallelism.zero = {.stage = stage, .offload = {.optimizer = true}};
    return measured(spec, layout_of(spec, {}), 0, std::make_unique<ApartLink>());
  };
  const std::int64_t parameters = plan::num_parameters(*spec.model.size);
  EXPECT_GT(on_device(1), (2 + 4) * parameters) << "stage 1 adds up whole gradients";
  EXPECT_LT(on_device(2), (2 + 2) * parameters);
}

/// Tied or not, from less than a layer to most of the model; where it is large gradients are most of the rest.
TEST_F(StepMemory, OfAnEmbeddingOfAnySizeIsForetoldAtEveryStageOfZero) {
  const std::vector<std::pair<std::int32_t, std::int32_t>> of_sizes{{500, 64}, {4000, 16}, {16000, 16}};  // classes, tokens
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
      for (const auto& [classes, tokens] : of_sizes) {
        for (const std::int32_t micro_batches : {1, 3}) {
          for (const std::int32_t stage : {0, 1, 2, 3}) {
            if (classes == 16000 && reduction == Reduction::kCanonical) continue;
            auto spec = large_job(precision, reduction, micro_batches, stage == 0 ? 1 : 4);
            spec.parallelism.zero.stage = stage;
            spec.model.size->tieEmbeddings = (stage + micro_batches) % 2 == 0 || classes == 4000;
            spec.model.size->vocabularySize = classes;
            spec.data.sequenceLength = tokens;
            expect_foretold(spec, {.dp = stage == 0 ? 1 : 4});
          }
        }
      }
    }
  }
}

TEST_F(StepMemory, WithRecomputationIsForetoldAtEveryStageOfZero) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto mode : {contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
      for (const std::int32_t micro_batches : {1, 3}) {
        for (const std::int32_t stage : {0, 1, 2, 3}) {
          for (const std::int32_t tokens : {64, 256}) {
            auto spec = large_job(precision, Reduction::kFast, micro_batches, 4);
            spec.parallelism.zero.stage = stage;
            spec.training.activationCheckpointing.mode = mode;
            spec.data.sequenceLength = tokens;
            expect_foretold(spec, {.dp = 4});
          }
        }
      }
    }
  }
}

/// The last exchanges of a micro-batch go on beside the next one's forward; their buffers were there until its second unit was exchanged.
TEST_F(StepMemory, HasNoExchangeOfTheMicroBatchBeforeBesideAHeadsLoss) {
  auto spec = large_job(ComputePrecision::kBF16, Reduction::kFast, 1, 4);
  spec.parallelism.zero.stage = 2;
  spec.model.size->vocabularySize = 4000;
  spec.data.sequenceLength = 512;  // so that the loss takes most
  const auto layout = layout_of(spec, {.dp = 4});
  const std::int64_t one = measured(spec, layout, 0);
  spec.training.globalBatchSize *= 3;
  const std::int64_t embedding = plan::exchange_bytes(spec) * plan::backward_units(spec, 0).back().part;
  EXPECT_LT(measured(spec, layout, 0) - one, plan::zero_memory(spec, 0).shard_sums + embedding / 4);
}

TEST_F(StepMemory, OfAStageOfAPipelineIsForetoldInEverySchedule) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto name : {PipelineScheduleName::kGPipe, PipelineScheduleName::kOneForwardOneBackward,
                            PipelineScheduleName::kInterleaved, PipelineScheduleName::kZeroBubble}) {
      for (const std::int32_t stage : {0, 1}) {
        auto spec = large_job(precision, Reduction::kFast, 8, 1);
        spec.parallelism.pipelineSchedule.name = name;
        spec.parallelism.pipelineSchedule.virtualStages = name == PipelineScheduleName::kInterleaved ? 2 : 1;
        expect_foretold(spec, {.pp = 2}, stage);
      }
    }
  }
}

/// One of those that a user may choose, in factors.
struct StepChoice {
  explicit StepChoice(const Combination& values)
      : precision(static_cast<ComputePrecision>(values[0])),
        reduction(static_cast<Reduction>(values[1])),
        schedule(static_cast<PipelineScheduleName>(values[2] / 2 % 4)),
        degrees{.pp = values[2] == 8 ? 1 : 2, .dp = values[3], .tp = values[4]},
        stage(values[2] % 2),
        zero(values[5]),
        recomputation(static_cast<contract::RecomputeMode>(values[6])),
        micro_batches(values[7]),
        tokens(values[8]) {}

  contract::TrainingJobSpec spec() const {
    auto out = large_job(precision, reduction, micro_batches, degrees.dp);
    out.parallelism.pipelineSchedule = {.name = schedule,
                                        .virtualStages = schedule == PipelineScheduleName::kInterleaved ? 2 : 1};
    out.parallelism.zero.stage = zero;
    out.training.activationCheckpointing.mode = recomputation;
    out.data.sequenceLength = tokens;
    out.data.train = {{.path = "/data"}};
    return out;
  }

  ComputePrecision precision;
  Reduction reduction;
  PipelineScheduleName schedule;
  contract::Degrees degrees;
  std::int32_t stage, zero;
  contract::RecomputeMode recomputation;
  std::int32_t micro_batches, tokens;
};

std::vector<Combination> step_combinations() {
  std::vector<Combination> out;
  const auto add = [&](Combination values) {
    const StepChoice choice(values);
    if (choice.degrees.dp == 1 && choice.zero > 0) return;
    auto spec = choice.spec();
    layout_of(spec, choice.degrees);
    if (contract::validate(spec).empty()) out.push_back(std::move(values));
  };
  for (const int layout : {0, 1, 2, 3, 4, 5, 6, 7, 8}) {  // each schedule and stage; 8: no pipeline
    for (const int dp : {1, 2, 4}) {
      for (int rest = 0; rest < 3 * 2 * 2 * 4 * 3 * 2 * 2; ++rest) {
        const int precision = rest % 3, reduction = rest / 3 % 2, tp = rest / 6 % 2 + 1, zero = rest / 12 % 4,
                  mode = rest / 48 % 3;
        add({precision, reduction, layout, dp, tp, zero, mode, rest / 144 % 2 == 0 ? 4 : 8, rest / 288 == 0 ? 32 : 256});
      }
    }
  }
  return out;
}

TEST_F(StepMemory, OfEachPairOfChoicesIsForetold) {
  const auto chosen = covering_set(step_combinations());
  EXPECT_GE(chosen.size(), 30u);
  for (const auto& values : chosen) {
    const StepChoice choice(values);
    // With data or tensor ranks beside them stages of these two are foretold less closely (docs/design/0020-what-fits.md).
    const bool has_chunks_or_halves =
        choice.schedule == PipelineScheduleName::kInterleaved || choice.schedule == PipelineScheduleName::kZeroBubble;
    if (has_chunks_or_halves && choice.degrees.dp * choice.degrees.tp > 1) continue;
    expect_foretold(choice.spec(), choice.degrees, choice.stage, kOfPairs);
  }
}

}  // namespace
}  // namespace trainyard::trainer
