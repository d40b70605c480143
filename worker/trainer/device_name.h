#pragma once
// What the driver calls a device.

#include <string>

#include <ATen/ATen.h>

namespace trainyard::trainer {

/// "NVIDIA H200"; empty for a CPU.
std::string device_name(at::Device device);

}  // namespace trainyard::trainer
