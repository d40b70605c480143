// The engine sends, on every axis, just the bytes that the plan foretells and that the controller places gangs by.

#include "worker/plan/traffic.h"

#include <gtest/gtest.h>

#include "tests/worker/mesh/counting_comm.h"
#include "tests/worker/mesh/ranks.h"
#include "worker/schedule/step.h"

namespace trainyard::schedule {
namespace {

contract::TrainingJobSpec job(const contract::Degrees& degrees) {
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

/// What all ranks send in a step of training, by axis.
void step(const contract::TrainingJobSpec& spec, mesh::Sent& sent) {
  const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
  mesh::run_ranks(layout, [&](mesh::Mesh& plain) {
    mesh::Mesh mesh = mesh::counted(plain, sent);
    model::Parameters parameters(spec, mesh);
    parameters.initialize(1);  // at ZeRO stages 1 and 2 it gathers all weights, as the end of a step does
    auto chunks = model::llama_chunks(spec, parameters, mesh);
    StepRunner runner(spec, parameters, chunks, mesh);
    const at::Tensor rows = at::arange(2 * 7, at::kLong).view({2, 7});
    runner.run({.micro_batches = 4, .micro_batch_size = 2, .sequence_length = 6, .loss_tokens = 8 * 6, .read = [&](std::int32_t) {
                  return MicroBatch{.tokens_BT = rows.narrow(1, 0, 6), .targets_BT = rows.narrow(1, 1, 6)};
                }});
  });
}

/// The foretold bytes along one axis.
std::int64_t foretold(const contract::TrainingJobSpec& spec, contract::Axis axis) {
  const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
  std::int64_t sum = 0;
  for (const auto& [from, to, bytes] : plan::traffic_per_step(spec)) {
    const auto a = layout.coordinate_of(from), b = layout.coordinate_of(to);
    const auto along = a.dp != b.dp ? contract::Axis::kDp : a.pp != b.pp ? contract::Axis::kPp : contract::Axis::kTp;
    sum += along == axis ? bytes : 0;
  }
  return sum;
}

TEST(Traffic, OfEveryScheduleIsForetoldToTheByte) {
  for (const auto& degrees : {contract::Degrees{.pp = 2}, {.pp = 4}, {.pp = 2, .dp = 2, .tp = 2}}) {
    for (const auto name : {contract::PipelineScheduleName::kGPipe, contract::PipelineScheduleName::kInterleaved,
                            contract::PipelineScheduleName::kZeroBubble}) {
      for (const bool tied : {false, true}) {
        auto spec = job(degrees);
        spec.model.size->layers = 8;
        spec.model.size->tieEmbeddings = tied;
        spec.parallelism.pipelineSchedule.name = name;
        spec.parallelism.pipelineSchedule.virtualStages = name == contract::PipelineScheduleName::kInterleaved ? 2 : 1;
        mesh::Sent sent;
        step(spec, sent);
        SCOPED_TRACE(std::string(contract::name_of(name)) + ", pp " + std::to_string(degrees.pp) + (tied ? ", tied" : ""));
        EXPECT_EQ(sent.tensor, foretold(spec, contract::Axis::kTp));
        EXPECT_EQ(sent.pipeline, foretold(spec, contract::Axis::kPp));
        EXPECT_EQ(sent.data, foretold(spec, contract::Axis::kDp));
        EXPECT_EQ(sent.world, 0);
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
            auto spec = job(degrees);
            spec.model.size->hiddenSize = 96;
            spec.model.size->vocabularySize = 200;
            spec.model.size->tieEmbeddings = tied;
            spec.parallelism.zero.stage = stage;
            spec.training.reduction = canonical ? contract::Reduction::kCanonical : contract::Reduction::kFast;
            spec.training.precision.compute = half ? contract::ComputePrecision::kBF16 : contract::ComputePrecision::kFP32;
            mesh::Sent sent;
            step(spec, sent);
            SCOPED_TRACE("stage " + std::to_string(stage) + ", pp " + std::to_string(degrees.pp) + ", dp " +
                         std::to_string(degrees.dp) + ", tp " + std::to_string(degrees.tp) + (tied ? ", tied" : "") +
                         (canonical ? ", canonical" : "") + (half ? ", BF16" : ""));
            EXPECT_EQ(sent.tensor, foretold(spec, contract::Axis::kTp));
            EXPECT_EQ(sent.pipeline, foretold(spec, contract::Axis::kPp));
            EXPECT_EQ(sent.data, foretold(spec, contract::Axis::kDp));
            EXPECT_EQ(sent.world, 0);
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
          auto spec = job(degrees);
          spec.model.size->hiddenSize = 96;
          spec.model.size->vocabularySize = 200;
          spec.model.size->tieEmbeddings = tied;
          spec.workers.count = 2;
          spec.workers.processesPerWorker = 2 * degrees.pp * degrees.tp;
          spec.parallelism.zero = {.stage = stage, .shardGroup = contract::ShardGroup::kNode};
          spec.training.reduction = canonical ? contract::Reduction::kCanonical : contract::Reduction::kFast;
          mesh::Sent sent;
          step(spec, sent);
          SCOPED_TRACE("stage " + std::to_string(stage) + ", pp " + std::to_string(degrees.pp) + (tied ? ", tied" : "") +
                       (canonical ? ", canonical" : ""));
          EXPECT_EQ(sent.pipeline, foretold(spec, contract::Axis::kPp));
          EXPECT_EQ(sent.data, foretold(spec, contract::Axis::kDp));
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
            auto spec = job(degrees);
            spec.parallelism.sequence = true;
            spec.parallelism.zero.stage = stage;
            spec.parallelism.pipelineSchedule = {.name = name, .virtualStages = name == Name::kInterleaved ? 2 : 1};
            spec.training.activationCheckpointing.mode = mode;
            spec.training.precision.compute = half ? contract::ComputePrecision::kBF16 : contract::ComputePrecision::kFP32;
            mesh::Sent sent;
            step(spec, sent);
            SCOPED_TRACE(std::string(contract::name_of(name)) + ", " + std::string(contract::name_of(mode)) + ", pp " +
                         std::to_string(degrees.pp) + ", dp " + std::to_string(degrees.dp) + ", ZeRO " + std::to_string(stage) +
                         (half ? ", BF16" : ""));
            EXPECT_EQ(sent.tensor, foretold(spec, contract::Axis::kTp));
            EXPECT_EQ(sent.pipeline, foretold(spec, contract::Axis::kPp));
            EXPECT_EQ(sent.data, foretold(spec, contract::Axis::kDp));
            EXPECT_EQ(sent.world, 0);
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
          auto spec = job(degrees);
          spec.model.size->tieEmbeddings = tied;
          spec.training.reduction = canonical ? contract::Reduction::kCanonical : contract::Reduction::kFast;
          spec.training.precision.compute = half ? contract::ComputePrecision::kBF16 : contract::ComputePrecision::kFP32;
          mesh::Sent sent;
          step(spec, sent);
          SCOPED_TRACE("pp " + std::to_string(degrees.pp) + ", dp " + std::to_string(degrees.dp) + ", tp " +
                       std::to_string(degrees.tp) + (tied ? ", tied" : "") + (canonical ? ", canonical" : "") +
                       (half ? ", BF16" : ""));
          EXPECT_EQ(sent.tensor, foretold(spec, contract::Axis::kTp));
          EXPECT_EQ(sent.pipeline, foretold(spec, contract::Axis::kPp));
          EXPECT_EQ(sent.data, foretold(spec, contract::Axis::kDp));
          EXPECT_EQ(sent.world, 0);
        }
      }
    }
  }
}

TEST(Traffic, OfRecomputationIsForetoldToTheByte) {
  for (const auto mode : {contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
    for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
      auto spec = job(degrees);
      spec.training.activationCheckpointing.mode = mode;
      mesh::Sent sent;
      step(spec, sent);
      EXPECT_EQ(sent.tensor, foretold(spec, contract::Axis::kTp)) << contract::name_of(mode);
      EXPECT_EQ(sent.pipeline, foretold(spec, contract::Axis::kPp));
    }
  }
}

}  // namespace
}  // namespace trainyard::schedule
