#include "worker/optim/adamw_kernels.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "worker/optim/adamw_kernels.cuh"

namespace trainyard::optim {
namespace {

/// Whether four elements can be read and written at once.
bool is_aligned(const at::Tensor& x) {
  return !x.defined() ||
         reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % (kAdamWEach * static_cast<std::size_t>(x.element_size())) == 0;
}

template <class State, class Gradient, class Weight>
void start_of(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  const std::int64_t count = tensors.master.numel(), per_block = std::int64_t{kAdamWThreads} * kAdamWEach;
  const auto blocks = static_cast<unsigned>((count + per_block - 1) / per_block);
  Weight* const weight = tensors.weight.defined() ? tensors.weight.data_ptr<Weight>() : nullptr;
  const bool aligned = is_aligned(tensors.master) && is_aligned(tensors.average) && is_aligned(tensors.square) &&
                       is_aligned(tensors.gradient) && is_aligned(tensors.weight);
  adamw_step<<<blocks, kAdamWThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      tensors.master.data_ptr<float>(), tensors.average.data_ptr<State>(), tensors.square.data_ptr<State>(),
      tensors.gradient.const_data_ptr<Gradient>(), weight, count, numbers, aligned);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class Gradient, class Weight>
void start_in_codes(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  constexpr std::int64_t kPerBlock = kAdamWThreads / kWarp;
  const auto blocks = static_cast<unsigned>((tensors.average_scales.numel() + kPerBlock - 1) / kPerBlock);
  Weight* const weight = tensors.weight.defined() ? tensors.weight.data_ptr<Weight>() : nullptr;
  const bool aligned = is_aligned(tensors.master) && is_aligned(tensors.average) && is_aligned(tensors.square) &&
                       is_aligned(tensors.gradient) && is_aligned(tensors.weight) && tensors.segment % kAdamWEach == 0;
  adamw_step_in_codes<<<blocks, kAdamWThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      tensors.master.data_ptr<float>(), tensors.average.data_ptr<std::uint8_t>(), tensors.square.data_ptr<std::uint8_t>(),
      tensors.average_scales.data_ptr<float>(), tensors.square_scales.data_ptr<float>(),
      tensors.gradient.const_data_ptr<Gradient>(), weight, tensors.master.numel(), tensors.segment, numbers, aligned);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class Gradient, class Weight>
void start(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  if (tensors.segment > 0) return start_in_codes<Gradient, Weight>(tensors, numbers);
  if (tensors.average.scalar_type() == at::kBFloat16) return start_of<c10::BFloat16, Gradient, Weight>(tensors, numbers);
  start_of<float, Gradient, Weight>(tensors, numbers);
}

template <class Gradient>
void start_by_weight(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  if (tensors.weight.defined() && tensors.weight.scalar_type() == at::kHalf) return start<Gradient, c10::Half>(tensors, numbers);
  start<Gradient, c10::BFloat16>(tensors, numbers);
}

}  // namespace

void adamw_step_on_gpu(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  if (tensors.master.numel() == 0) return;
  const c10::cuda::CUDAGuard guard(tensors.master.device());
  switch (tensors.gradient.scalar_type()) {
    case at::kBFloat16: return start_by_weight<c10::BFloat16>(tensors, numbers);
    case at::kHalf: return start_by_weight<c10::Half>(tensors, numbers);
    default: return start_by_weight<float>(tensors, numbers);
  }
}

}  // namespace trainyard::optim
