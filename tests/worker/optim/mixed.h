#pragma once

#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "worker/plan/parameters.h"

namespace trainyard::optim {

/// Of mixed size and sign, so that another order of the additions would show.
inline at::Tensor mixed(const std::vector<std::int64_t>& shape) {
  const at::Tensor i = at::arange(plan::num_elements(shape), at::kFloat);
  return i.mul(0.37).sin().mul(i.remainder(7).sub(3).mul(3).exp()).view(shape);
}

}  // namespace trainyard::optim
