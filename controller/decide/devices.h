#pragma once
// What nodes tell of their GPUs: labels of NVIDIA's GPU feature discovery (k8s-device-plugin, docs/gpu-feature-discovery), which are named after
// the resource: nvidia.com/gpu.memory, nvidia.com/mig-3g.20gb.memory.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// Of one GPU, in bytes: the label RESOURCE.memory, in MiB. Nothing where the node has no such label.
std::optional<std::int64_t> device_memory(const Node& node, const std::string& resource);

/// The label RESOURCE.product, for example NVIDIA-H100-80GB-HBM3; empty: it has none.
std::string device_name(const Node& node, const std::string& resource);

/// Whether several pods share one of its GPUs, so that none of them has all of it (time slicing, MPS): by the label RESOURCE.replicas.
bool shares_devices(const Node& node, const std::string& resource);

/// Digits, all of them.
std::optional<std::int64_t> whole_number(std::string_view digits);

}  // namespace trainyard::decide
