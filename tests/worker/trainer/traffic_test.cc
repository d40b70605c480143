// The engine sends, on every axis, just the bytes that the plan foretells and that the controller places gangs by.

#include "worker/plan/traffic.h"

#include <mutex>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/counting_comm.h"
#include "tests/worker/mesh/ranks.h"
#include "worker/trainer/engine.h"
#include "worker/trainer/saves.h"

namespace trainyard::trainer {
namespace {

contract::TrainingJobSpec job_in_layout(const contract::Degrees& degrees) {
  contract::TrainingJobSpec spec;
  spec.workers.count = degrees.pp * degrees.dp * degrees.tp;
  spec.model.size = contract::ModelSize{
      .layers = 4, .hiddenSize = 16, .heads = 4, .keyValueHeads = 2, .feedForwardSize = 24, .vocabularySize = 33};
  spec.data.sequenceLength = 6;
  spec.parallelism.pipeline = degrees.pp;
  spec.parallelism.tensor = degrees.tp;
  spec.parallelism.microBatchSize = 2;
  spec.training.globalBatchSize = 8 * degrees.dp;  // four micro-batches a data rank
  return spec;
}

/// What all ranks send in the first step of training, by axis: from the forward to the weights of the next one, and the word with it.
mesh::Sent step(const contract::TrainingJobSpec& spec) {
  const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
  std::mutex mutex;
  mesh::Sent all;
  mesh::run_ranks(layout, [&](mesh::Mesh& plain) {
    at::set_num_threads(1);
    mesh::Sent mine;
    mesh::Mesh mesh = mesh::counted(plain, mine);
    Engine engine(spec, mesh, 1);
    engine.initialize();
    mine = {};
    const std::int64_t length = spec.data.sequenceLength;
    const at::Tensor rows = at::arange(2 * (length + 1), at::kLong).view({2, length + 1});
    engine.step({.micro_batches = 4,
                 .micro_batch_size = 2,
                 .sequence_length = length,
                 .loss_tokens = 8 * length,
                 .read = [&](std::int32_t) {
                   return schedule::MicroBatch{.tokens_BT = rows.narrow(1, 0, length), .targets_BT = rows.narrow(1, 1, length)};
                 }});
    agree(mesh, {});
    const std::lock_guard lock(mutex);
    for (const auto axis : {&mesh::Sent::world, &mesh::Sent::data, &mesh::Sent::tensor, &mesh::Sent::pipeline}) {
      (all.*axis).bytes += (mine.*axis).bytes;
      (all.*axis).calls += (mine.*axis).calls;
    }
  });
  return all;
}

std::int64_t total(const std::vector<plan::Flow>& flows) {
  std::int64_t sum = 0;
  for (const auto& flow : flows) sum += flow.bytes;
  return sum;
}

void expect_foretold(const contract::TrainingJobSpec& spec) {
  const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
  const auto beside = plan::bookkeeping_per_step(spec);
  std::int64_t data = total(beside.data), tensor = total(beside.tensor), pipeline = total(beside.pipeline);
  for (const auto& [from, to, bytes] : plan::traffic_per_step(spec)) {
    const auto a = layout.coordinate_of(from), b = layout.coordinate_of(to);
    (a.dp != b.dp ? data : a.pp != b.pp ? pipeline : tensor) += bytes;
  }
  const auto sent = step(spec);
  EXPECT_EQ(sent.data.bytes, data);
  EXPECT_EQ(sent.tensor.bytes, tensor);
  EXPECT_EQ(sent.pipeline.bytes, pipeline);
  EXPECT_EQ(sent.world.bytes, total(beside.world));
}

TEST(Traffic, OfEveryScheduleIsForetoldToTheByte) {
  for (const auto& degrees : {contract::Degrees{.pp = 2}, {.pp = 4}, {.pp = 2, .dp = 2, .tp = 2}}) {
    for (const auto name : {contract::PipelineScheduleName::kGPipe, contract::PipelineScheduleName::kInterleaved,
                            contract::PipelineScheduleName::kZeroBubble}) {
      for (const bool tied : {false, true}) {
        auto spec = job_in_layout(degrees);
        spec.model.size->layers = 8;
        spec.model.size->tieEmbeddings = tied;
        spec.parallelism.pipelineSchedule.name = name;
        spec.parallelism.pipelineSchedule.virtualStages = name == contract::PipelineScheduleName::kInterleaved ? 2 : 1;
        SCOPED_TRACE(std::string(contract::name_of(name)) + ", pp " + std::to_string(degrees.pp) + (tied ? ", tied" : ""));
        expect_foretold(spec);
      }
    }
  }
}

TEST(Traffic, OfZeroIsForetoldToTheByte) {
  for (const auto& degrees :
       {contract::Degrees{.dp = 2}, {.dp = 4}, {.pp = 2, .dp = 2}, {.dp = 2, .tp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
    for (const std::int32_t stage : {1, 2, 3}) {
      for (const bool tied : {false, true}) {
        for (const bool canonical : {false, true}) {
          for (const bool half : {false, true}) {
            auto spec = job_in_layout(degrees);
            spec.model.size->hiddenSize = 96;
            spec.model.size->vocabularySize = 200;
            spec.model.size->tieEmbeddings = tied;
            spec.parallelism.zero.stage = stage;
            spec.training.reduction = canonical ? contract::Reduction::kCanonical : contract::Reduction::kFast;
            spec.training.precision.compute = half ? contract::ComputePrecision::kBF16 : contract::ComputePrecision::kFP32;
            SCOPED_TRACE("stage " + std::to_string(stage) + ", pp " + std::to_string(degrees.pp) + ", dp " +
                         std::to_string(degrees.dp) + ", tp " + std::to_string(degrees.tp) + (tied ? ", tied" : "") +
                         (canonical ? ", canonical" : "") + (half ? ", BF16" : ""));
            expect_foretold(spec);
          }
        }
      }
    }
  }
}

TEST(Traffic, OfShardsInAWorkerIsForetoldToTheByte) {
  for (const auto& degrees : {contract::Degrees{.dp = 4}, {.pp = 2, .dp = 4}, {.dp = 4, .tp = 2}}) {
    for (const std::int32_t stage : {1, 2, 3}) {
      for (const bool tied : {false, true}) {
        for (const bool canonical : {false, true}) {
          auto spec = job_in_layout(degrees);
          spec.model.size->hiddenSize = 96;
          spec.model.size->vocabularySize = 200;
          spec.model.size->tieEmbeddings = tied;
          spec.workers.count = 2;
          spec.workers.processesPerWorker = 2 * degrees.pp * degrees.tp;
          spec.parallelism.zero = {.stage = stage, .shardGroup = contract::ShardGroup::kNode};
          spec.training.reduction = canonical ? contract::Reduction::kCanonical : contract::Reduction::kFast;
          SCOPED_TRACE("stage " + std::to_string(stage) + ", pp " + std::to_string(degrees.pp) + (tied ? ", tied" : "") +
                       (canonical ? ", canonical" : ""));
          expect_foretold(spec);
        }
      }
    }
  }
}

TEST(Traffic, OfSequenceParallelismIsForetoldToTheByte) {
  using Name = contract::PipelineScheduleName;
  for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .tp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
    for (const auto mode :
         {contract::RecomputeMode::kNone, contract::RecomputeMode::kSelective, contract::RecomputeMode::kFull}) {
      for (const auto name : {Name::kOneForwardOneBackward, Name::kInterleaved, Name::kZeroBubble}) {
        for (const bool half : {false, true}) {
          for (const std::int32_t stage : {0, 1, 3}) {
            if (degrees.pp == 1 && name != Name::kOneForwardOneBackward) continue;
            if (degrees.dp == 1 && stage > 0) continue;
            auto spec = job_in_layout(degrees);
            spec.parallelism.sequence = true;
            spec.parallelism.zero.stage = stage;
            spec.parallelism.pipelineSchedule = {.name = name, .virtualStages = name == Name::kInterleaved ? 2 : 1};
            spec.training.activationCheckpointing.mode = mode;
            spec.training.precision.compute = half ? contract::ComputePrecision::kBF16 : contract::ComputePrecision::kFP32;
            SCOPED_TRACE(std::string(contract::name_of(name)) + ", " + std::string(contract::name_of(mode)) + ", pp " +
                         std::to_string(degrees.pp) + ", dp " + std::to_string(degrees.dp) + ", ZeRO " + std::to_string(stage) +
                         (half ? ", BF16" : ""));
            expect_foretold(spec);
          }
        }
      }
    }
  }
}

TEST(Traffic, IsForetoldToTheByte) {
  for (const auto& degrees :
       {contract::Degrees{.tp = 2}, {.pp = 2}, {.pp = 4}, {.dp = 2}, {.pp = 2, .dp = 2, .tp = 2}, {.dp = 4}}) {
    for (const bool tied : {false, true}) {
      for (const bool canonical : {false, true}) {
        for (const bool half : {false, true}) {
          auto spec = job_in_layout(degrees);
          spec.model.size->tieEmbeddings = tied;
          spec.training.reduction = canonical ? contract::Reduction::kCanonical : contract::Reduction::kFast;
          spec.training.precision.compute = half ? contract::ComputePrecision::kBF16 : contract::ComputePrecision::kFP32;
          SCOPED_TRACE("pp " + std::to_string(degrees.pp) + ", dp " + std::to_string(degrees.dp) + ", tp " +
                       std::to_string(degrees.tp) + (tied ? ", tied" : "") + (canonical ? ", canonical" : "") +
                       (half ? ", BF16" : ""));
          expect_foretold(spec);
        }
      }
    }
  }
}

TEST(Traffic, OfRecomputationIsForetoldToTheByte) {
  for (const auto mode : {contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
    for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
      auto spec = job_in_layout(degrees);
      spec.training.activationCheckpointing.mode = mode;
      expect_foretold(spec);
    }
  }
}

/// With two ranks a gathering and an all-reduce send the same.
TEST(Traffic, OfFourTensorRanksIsForetoldToTheByteWhateverTheReductionIs) {
  for (const auto& degrees : {contract::Degrees{.tp = 4}, {.pp = 2, .tp = 4}}) {
    for (const bool sequence : {false, true}) {
      for (const bool canonical : {false, true}) {
        auto spec = job_in_layout(degrees);
        spec.model.size->keyValueHeads = 4;
        spec.data.sequenceLength = 8;
        spec.parallelism.sequence = sequence;
        spec.training.reduction = canonical ? contract::Reduction::kCanonical : contract::Reduction::kFast;
        SCOPED_TRACE("pp " + std::to_string(degrees.pp) + (sequence ? ", sequence" : "") + (canonical ? ", canonical" : ""));
        expect_foretold(spec);
      }
    }
  }
}

TEST(Traffic, GoesInAsManyCallsOnEachAxisAsAStepNeeds) {
  auto spec = job_in_layout({.pp = 2, .dp = 2, .tp = 2});
  spec.training.reduction = contract::Reduction::kFast;
  const auto sent = step(spec);
  // Of 8 ranks, in each of 4 micro-batches: four sums for each of 2 layers, one for the embedding, one for the head and two for the loss; then one
  // for the norm.
  EXPECT_EQ(sent.tensor.calls, 4 * (4 * (4 * 2 + 1) + 1) + 4 * (4 * (4 * 2 + 1 + 2) + 1));
  EXPECT_EQ(sent.pipeline.calls, 8 * (4 + 1)) << "activations one way, gradients the other; then one for the norm and the loss";
  EXPECT_EQ(sent.data.calls, 8 * (3 + 1)) << "the gradients of two layers and of an end, and the loss";
  EXPECT_EQ(sent.world.calls, 8) << "what the agents wish";
}

}  // namespace
}  // namespace trainyard::trainer
