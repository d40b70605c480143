#pragma once
// What GPUs can do at best, and what NVIDIA's own systems have around each of them, by the name of the model.

#include <optional>
#include <string_view>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// Rates are a second, bytes each way. 0: the model has none, or nothing is known of it.
struct Device {
  double half_flops = 0;        // dense products in BF16 or FP16, which are equally fast on all of them; without sparsity
  double fp8_flops = 0;         // dense products in FP8
  double link_bytes = 0;        // to the other GPUs of its node, over NVLink
  double host_bytes = 0;        // to its host's memory, over PCIe
  double network_bytes = 0;     // to other nodes: the network adapter of its own that a GPU has in a DGX or HGX system
  bool sums_in_switch = false;  // NVLink SHARP: the node's switches add up what GPUs send
};

/// `name` as the driver has it ("NVIDIA H100 80GB HBM3") or a node's label ("NVIDIA-H100-80GB-HBM3"). Nothing for a model that is not listed,
/// nor for a part of one (MIG) or one that is shared (names with SHARED), which can do less.
/// Sources: NVIDIA's data sheets of A100, H100, H200, GH200 and B200, and of DGX A100 (200 Gb/s a GPU), DGX H100, H200 and B200 (400 Gb/s). NVLink SHARP:
/// NVIDIA's NVSwitch of the third generation and later.
std::optional<Device> find_device(std::string_view name);

/// Of find_device(), in that format; nothing for FP32, whose products may or may not take tensor cores.
std::optional<double> peak_flops(std::string_view name, contract::ComputePrecision compute);

}  // namespace trainyard::plan
