#ifdef TRAINYARD_CUDA

#include "worker/optim/norm_on_gpu.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "worker/optim/norm_kernels.h"

namespace trainyard::optim {

at::Tensor block_sums_on_gpu(const at::Tensor& gradient, const NormCut& cut) {
  const c10::cuda::CUDAGuard guard(gradient.device());
  const at::Tensor packed = gradient.contiguous();
  at::Tensor sums = at::empty({cut.num_blocks()}, gradient.options().dtype(at::kDouble));
  start_sum_blocks(packed.const_data_ptr<float>(), cut, sums.data_ptr<double>(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return sums;
}

at::Tensor halving_sum_on_gpu(const at::Tensor& values) {
  const c10::cuda::CUDAGuard guard(values.device());
  const at::Tensor scratch = values.clone(at::MemoryFormat::Contiguous);
  at::Tensor sum = at::empty({}, values.options());
  start_sum_halving(scratch.data_ptr<double>(), scratch.numel(), sum.data_ptr<double>(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return sum;
}

}  // namespace trainyard::optim

#endif  // TRAINYARD_CUDA
