#pragma once
// Small worlds in a line or two: clusters, jobs and pods as the cache would hold them.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::test {

/// 2026-01-01T00:00:00Z plus so many seconds.
contract::Time at(double seconds);

inline constexpr const char* kGpu = "nvidia.com/gpu";

/// Racks of equal nodes: node-0, node-1, … fill rack-0 first, then rack-1. All are ready since at(-1000).
///   ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).use("node-0", 4).build()
class ClusterBuilder {
 public:
  ClusterBuilder& racks(int number);
  ClusterBuilder& nodes_per_rack(int number);
  ClusterBuilder& racks_per_block(int number);  // adds the level block above rack
  ClusterBuilder& gpus_per_node(int number);
  ClusterBuilder& cpus_per_node(int number);
  /// Labels as of NVIDIA's feature discovery, without which nobody knows what the GPUs are: NVIDIA-H100-80GB-HBM3, 81559.
  ClusterBuilder& gpu_model(const std::string& product, int mebibytes);
  /// A pod on the node that takes `gpus`: another team's, or, with a job's name, one of ours.
  ClusterBuilder& use(const std::string& node, int gpus, const std::string& job = "");
  ClusterBuilder& change(const std::string& node, std::function<void(decide::Node&)> edit);
  decide::Cluster build() const;

 private:
  struct Taken {
    std::string node;
    int gpus;
    std::string job;
  };
  int racks_ = 1, nodes_per_rack_ = 2, racks_per_block_ = 0, gpus_ = 0, cpus_ = 16, gpu_mebibytes_ = 0;
  std::string gpu_product_;
  std::vector<Taken> taken_;
  std::vector<std::pair<std::string, std::function<void(decide::Node&)>>> edits_;
};

/// A valid job of `workers` pods with `gpus` GPUs each (0: one rank on the CPU), created at(0): namespace default, UID uid-<name>.
decide::Job make_job(const std::string& name, int workers = 2, int gpus = 0);

/// The same with the engine Custom: one container, worker, of an image that has no agent.
decide::Job make_custom_job(const std::string& name, int workers = 2, int gpus = 0);

/// A Pod as the watch would show it right after it was created from this body.
decide::Pod pod_from(const contract::Json& body, const std::string& uid, contract::Time created);

}  // namespace trainyard::test
