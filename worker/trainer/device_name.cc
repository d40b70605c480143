#include "worker/trainer/device_name.h"

#ifdef TRAINYARD_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

namespace trainyard::trainer {

std::string device_name(at::Device device) {
#ifdef TRAINYARD_CUDA
  if (device.is_cuda()) return at::cuda::getDeviceProperties(device.index())->name;
#endif
  (void)device;
  return {};
}

}  // namespace trainyard::trainer
