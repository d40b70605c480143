#pragma once
// spec.parallelism of a TrainingJob (job.h says how these types follow crds/trainingjob.yaml).

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "crds/contract/fields.h"

namespace trainyard::contract {

enum class PipelineScheduleName { kOneForwardOneBackward, kGPipe, kInterleaved, kZeroBubble };
constexpr auto enum_names(PipelineScheduleName) {
  return std::to_array<std::string_view>({"OneForwardOneBackward", "GPipe", "Interleaved", "ZeroBubble"});
}

struct PipelineSchedule {
  PipelineScheduleName name = PipelineScheduleName::kOneForwardOneBackward;
  std::int32_t virtualStages = 1;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("name", self.name);
    field("virtualStages", self.virtualStages);
  }
  bool operator==(const PipelineSchedule&) const = default;
};

enum class ShardGroup { kWorld, kNode };
constexpr auto enum_names(ShardGroup) { return std::to_array<std::string_view>({"World", "Node"}); }

struct Offload {
  bool parameters = false;
  bool optimizer = false;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("parameters", self.parameters);
    field("optimizer", self.optimizer);
  }
  bool operator==(const Offload&) const = default;
};

struct Zero {
  std::int32_t stage = 0;
  ShardGroup shardGroup = ShardGroup::kWorld;
  Offload offload;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("stage", self.stage);
    field("shardGroup", self.shardGroup);
    field("offload", self.offload);
  }
  bool operator==(const Zero&) const = default;
};

struct Parallelism {
  std::int32_t tensor = 1;
  std::int32_t pipeline = 1;
  std::int32_t context = 1;
  std::int32_t expert = 1;
  std::optional<std::int32_t> data;  // left out: what remains of the ranks; see degrees() in layout.h
  bool sequence = false;
  std::int32_t microBatchSize = 1;
  PipelineSchedule pipelineSchedule;
  Zero zero;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("tensor", self.tensor);
    field("pipeline", self.pipeline);
    field("context", self.context);
    field("expert", self.expert);
    field("data", self.data);
    field("sequence", self.sequence);
    field("microBatchSize", self.microBatchSize);
    field("pipelineSchedule", self.pipelineSchedule);
    field("zero", self.zero);
  }
  bool operator==(const Parallelism&) const = default;
};

}  // namespace trainyard::contract
