#pragma once
// Whether a job's ranks would run out of memory: of the GPU, by what its layout and the model's sizes take (worker/plan/cost.h) and what nodes
// tell of their GPUs (devices.h); of the host, by what is offloaded and the memory limit of the pod template; of the one memory that there is
// without GPUs, by the same limit.
//
// It is said where it is certain alone: what is foretold is the tensors', and of a node that does not tell what its GPUs have it is not known.

#include <cstdint>
#include <optional>
#include <string>

#include "controller/decide/cluster.h"
#include "worker/plan/nearest_layout.h"

namespace trainyard::decide {

/// What a process takes of its GPU beside the tensors, at the least: the CUDA context, and NCCL's buffers.
inline constexpr std::int64_t kBesideTensors = std::int64_t{1} << 30;
/// The same of its worker's memory where there are no GPUs: code, threads' stacks, LibTorch's own tables (docs/performance.md).
inline constexpr std::int64_t kBesideTensorsOnCpu = std::int64_t{128} << 20;

/// What the ranks of the stage that holds most are expected to hold, by plan::bytes_per_rank(). Nothing with the engine Custom.
std::optional<contract::RankMemory> memory_status(const contract::TrainingJobSpec& spec);

/// For NodeRules::device. Nothing with the engine Custom, without GPUs, and of a layout that is not valid. Cost: microseconds a pipeline
/// stage.
std::optional<DeviceNeed> device_need(const contract::TrainingJobSpec& spec);
/// All of the spec that device_need() follows from, in some hundred bytes: the same for the jobs of a sweep over seeds, rates, data or paths.
std::string layout_key(const contract::TrainingJobSpec& spec);

/// Why its ranks would run out of memory wherever they may run, in numbers; empty where they would not, or nobody can know. `needs`: of its
/// pods as the API server accepted them. Cost: O(nodes) where no node has enough.
std::string memory_shortage(const Cluster& cluster, const Job& job, const PodNeeds& needs);

/// Of a job that is not refused for it, why it might run out of memory all the same; empty where nothing speaks for that. With GPUs: what is
/// offloaded is more than its pods ask for of their hosts' memory, so that it is up to the node whether there is room. Without: its tensors are
/// within the limit, but not with what processes take beside them, and with what checkpoints are written from.
std::string host_memory_doubt(const Job& job, const PodNeeds& needs);

/// Of a job with a shortage: which layout would fit.
class LayoutQuestion {
 public:
  /// The job outlives it. Cost: O(nodes).
  LayoutQuestion(const Cluster& cluster, const Job& job, const PodNeeds& needs);
  /// The same where the answer is: what of the spec is of no matter to layouts, such as the template, paths, seeds and learning rates, is not in it.
  const std::string& text() const { return text_; }
  /// The nearest that would fit (plan::nearest_layout), or that there is none. One sentence. Cost: up to a tenth of a second.
  std::string answer() const;

 private:
  void take_room_of_nodes(const Cluster& cluster, const Job& job, const PodNeeds& needs);
  std::string answer_without_gpus() const;

  const contract::TrainingJobSpec& spec_;
  plan::MemoryRoom room_;
  std::string text_;
};

/// "12.3 GiB", "128 MiB".
std::string bytes_text(std::int64_t bytes);

}  // namespace trainyard::decide
