#include "worker/model/dropout.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "worker/model/philox.h"

#ifdef TRAINYARD_CUDA
#include "worker/model/fused_kernels.h"
#endif

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T>
void drop_rows(const T* x, T* out, std::int64_t rows, std::int64_t width, const DropoutNumbers& numbers,
               const DropoutPlace& place) {
  constexpr std::int64_t kRowsAThread = 16;
  at::parallel_for(0, rows, kRowsAThread, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto token = static_cast<std::uint64_t>(place.first_token + row);
      const T* const in = x + row * width;
      T* const to = out + row * width;
      for (std::int64_t first = 0; first < width; first += 4) {
        const PhiloxWords words = philox({{static_cast<std::uint32_t>(token), static_cast<std::uint32_t>(token >> 32),
                                           static_cast<std::uint32_t>(first / 4), place.site}},
                                         place.seed);
        for (std::int64_t i = first; i < std::min(first + 4, width); ++i) {
          to[i] = words.at[i - first] < numbers.threshold ? T(0) : static_cast<T>(static_cast<float>(in[i]) * numbers.scale);
        }
      }
    }
  });
}

at::Tensor dropped(const at::Tensor& x, double rate, const DropoutPlace& place) {
  const auto numbers = dropout_numbers(rate);
#ifdef TRAINYARD_CUDA
  if (x.is_cuda()) {
    const at::Tensor in = x.contiguous();
    at::Tensor out = at::empty_like(in);
    dropout_on_gpu(in, out, numbers, place);
    return out;
  }
#endif
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  const std::int64_t width = in.size(-1);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, in.scalar_type(), "dropout", [&] {
    drop_rows(in.const_data_ptr<scalar_t>(), out.data_ptr<scalar_t>(), in.numel() / width, width, numbers, place);
  });
  return out;
}

struct Dropout : torch::autograd::Function<Dropout> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double rate, const DropoutPlace& place) {
    context->saved_data["rate"] = rate;
    context->saved_data["seed"] = static_cast<std::int64_t>(place.seed);
    context->saved_data["site"] = static_cast<std::int64_t>(place.site);
    context->saved_data["first_token"] = place.first_token;
    return dropped(x, rate, place);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = [&](const char* name) { return context->saved_data[name].toInt(); };
    const DropoutPlace place{.seed = static_cast<std::uint64_t>(saved("seed")),
                             .site = static_cast<std::uint32_t>(saved("site")),
                             .first_token = saved("first_token")};
    return {dropped(gradients[0], context->saved_data["rate"].toDouble(), place), {}, {}};
  }
};

}  // namespace

DropoutNumbers dropout_numbers(double rate) {
  TORCH_CHECK(rate >= 0 && rate < 1, "a dropout of ", rate, " is no probability below 1");
  constexpr double kWords = 4294967296.0;  // 2^32
  const double threshold = std::min(std::round(rate * kWords), kWords - 1);
  return {.threshold = static_cast<std::uint32_t>(threshold), .scale = static_cast<float>(1 / (1 - rate))};
}

at::Tensor dropout(const at::Tensor& x_BTD, double rate, const DropoutPlace& place) { return Dropout::apply(x_BTD, rate, place); }

}  // namespace trainyard::model
