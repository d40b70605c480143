#include "worker/model/fused_kernels.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "worker/model/fused_kernels.cuh"

namespace trainyard::model {
namespace {

unsigned blocks_of(std::int64_t threads) { return static_cast<unsigned>((threads + kFusedThreads - 1) / kFusedThreads); }

template <class T>
std::int64_t packs_of(const at::Tensor& x) {
  return (x.numel() + Pack<T>::kSize - 1) / Pack<T>::kSize;
}

/// body(T{}) for the tensor's type.
template <class Body>
void by_type(const at::Tensor& x, const Body& body) {
  const c10::cuda::CUDAGuard guard(x.device());
  switch (x.scalar_type()) {
    case at::kFloat: body(float{}); break;
    case at::kBFloat16: body(c10::BFloat16{}); break;
    case at::kHalf: body(c10::Half{}); break;
    default: TORCH_CHECK(false, "the fused kernels take FP32, BF16 and FP16, not ", x.scalar_type());
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class T, int kEach>
void start_cross_entropy(const at::Tensor& logits_NV, const at::Tensor& targets_N, const at::Tensor& losses_N, bool with_gradient,
                         float smoothing, float z) {
  cross_entropy<T, kEach><<<static_cast<unsigned>(logits_NV.size(0)), kFusedThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      logits_NV.data_ptr<T>(), targets_N.const_data_ptr<std::int64_t>(), losses_N.data_ptr<float>(), logits_NV.size(1),
      with_gradient, smoothing, z);
}

}  // namespace

at::Tensor for_kernels(const at::Tensor& x) {
  const at::Tensor packed = x.contiguous();
  return reinterpret_cast<std::uintptr_t>(packed.const_data_ptr()) % 16 == 0 ? packed : packed.clone();
}

void swiglu_forward_on_gpu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out) {
  if (gate.numel() == 0) return;
  by_type(gate, [&](auto zero) {
    using T = decltype(zero);
    swiglu_forward<<<blocks_of(packs_of<T>(gate)), kFusedThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        gate.const_data_ptr<T>(), up.const_data_ptr<T>(), out.data_ptr<T>(), gate.numel());
  });
}

void swiglu_backward_on_gpu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient, const at::Tensor& d_gate,
                            const at::Tensor& d_up) {
  if (gate.numel() == 0) return;
  by_type(gate, [&](auto zero) {
    using T = decltype(zero);
    swiglu_backward<<<blocks_of(packs_of<T>(gate)), kFusedThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        gate.const_data_ptr<T>(), up.const_data_ptr<T>(), gradient.const_data_ptr<T>(), d_gate.data_ptr<T>(), d_up.data_ptr<T>(),
        gate.numel());
  });
}

bool can_norm_on_gpu(const at::Tensor& x_ND) { return x_ND.is_cuda() && x_ND.size(-1) * x_ND.element_size() % 16 == 0; }

void rms_norm_forward_on_gpu(const at::Tensor& x_ND, const at::Tensor& weight_D, double epsilon, const at::Tensor& out_ND,
                             const at::Tensor& inverse_N) {
  if (x_ND.numel() == 0) return;
  by_type(x_ND, [&](auto zero) {
    using T = decltype(zero);
    rms_norm_forward<<<static_cast<unsigned>(x_ND.size(0)), kFusedThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        x_ND.const_data_ptr<T>(), weight_D.const_data_ptr<T>(), out_ND.data_ptr<T>(), inverse_N.data_ptr<float>(), x_ND.size(1),
        static_cast<float>(epsilon));
  });
}

void rms_norm_backward_on_gpu(const at::Tensor& x_ND, const at::Tensor& weight_D, const at::Tensor& inverse_N,
                              const at::Tensor& gradient_ND, const at::Tensor& d_x_ND, const at::Tensor& d_weight_GD) {
  if (x_ND.numel() == 0) return;
  by_type(x_ND, [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t width = x_ND.size(1), column_blocks = blocks_of(width / Pack<T>::kSize);
    const auto stream = c10::cuda::getCurrentCUDAStream();
    const T* const x = x_ND.const_data_ptr<T>();
    const T* const gradient = gradient_ND.const_data_ptr<T>();
    const float* const inverses = inverse_N.const_data_ptr<float>();
    rms_norm_backward<<<static_cast<unsigned>(x_ND.size(0)), kFusedThreads, 0, stream>>>(
        x, weight_D.const_data_ptr<T>(), inverses, gradient, d_x_ND.data_ptr<T>(), width);
    rms_norm_weight_backward<<<static_cast<unsigned>(d_weight_GD.size(0) * column_blocks), kFusedThreads, 0, stream>>>(
        x, inverses, gradient, d_weight_GD.data_ptr<float>(), x_ND.size(0), width, column_blocks, kNormRows);
  });
}

bool can_rotate_on_gpu(const at::Tensor& x) {
  return x.is_cuda() && x.size(-1) % 2 == 0 && x.size(-1) / 2 * x.element_size() % 16 == 0;
}

void rotate_on_gpu(const at::Tensor& x_BTNH, const at::Tensor& cosine_TH, const at::Tensor& sine_TH, const at::Tensor& out_BTNH,
                   bool back) {
  if (x_BTNH.numel() == 0) return;
  by_type(x_BTNH, [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t pieces = x_BTNH.numel() / 2 / Pack<T>::kSize;
    rotate_halves<<<blocks_of(pieces), kFusedThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        x_BTNH.const_data_ptr<T>(), cosine_TH.const_data_ptr<T>(), sine_TH.const_data_ptr<T>(), out_BTNH.data_ptr<T>(), pieces,
        x_BTNH.size(2), x_BTNH.size(1), x_BTNH.size(3), back);
  });
}

void cross_entropy_on_gpu(const at::Tensor& logits_NV, const at::Tensor& targets_N, const at::Tensor& losses_N,
                          bool with_gradient, double label_smoothing, double z_loss) {
  if (logits_NV.numel() == 0) return;
  const auto smoothing = static_cast<float>(label_smoothing), z = static_cast<float>(z_loss);
  by_type(logits_NV, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWide = Pack<T>::kSize;
    if (logits_NV.size(1) % kWide == 0) {
      start_cross_entropy<T, kWide>(logits_NV, targets_N, losses_N, with_gradient, smoothing, z);
    } else {
      start_cross_entropy<T, 1>(logits_NV, targets_N, losses_N, with_gradient, smoothing, z);
    }
  });
}

void dropout_on_gpu(const at::Tensor& x_BTD, const at::Tensor& out_BTD, const DropoutNumbers& numbers,
                    const DropoutPlace& place) {
  if (x_BTD.numel() == 0) return;
  by_type(x_BTD, [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t width = x_BTD.size(-1), fours = (width + 3) / 4, rows = x_BTD.numel() / width;
    drop<<<blocks_of(rows * fours), kFusedThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        x_BTD.const_data_ptr<T>(), out_BTD.data_ptr<T>(), rows, width, numbers.threshold, numbers.scale, place.first_token,
        place.site, place.seed);
  });
}

}  // namespace trainyard::model
