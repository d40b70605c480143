#include "worker/checkpoint/tensor_shard.h"

#include <algorithm>
#include <stdexcept>

namespace trainyard::checkpoint {

std::int64_t num_elements(const std::vector<std::int64_t>& shape) {
  std::int64_t product = 1;
  for (const auto size : shape) product *= size;
  return product;
}

Box intersection(const Box& a, const Box& b) {
  Box out = a;
  for (std::size_t dim = 0; dim < a.shape.size(); ++dim) {
    out.offset[dim] = std::max(a.offset[dim], b.offset[dim]);
    const std::int64_t end = std::min(a.offset[dim] + a.shape[dim], b.offset[dim] + b.shape[dim]);
    out.shape[dim] = std::max<std::int64_t>(0, end - out.offset[dim]);
  }
  return out;
}

at::Tensor view_of(at::Tensor tensor, const std::vector<std::int64_t>& origin, const Box& box) {
  for (std::size_t dim = 0; dim < box.shape.size(); ++dim) {
    tensor = tensor.narrow(static_cast<std::int64_t>(dim), box.offset[dim] - origin[dim], box.shape[dim]);
  }
  return tensor;
}

Box box_of(const TensorShard& shard) {
  Box box{shard.offset, shard.local.sizes().vec()};
  bool inside = box.offset.size() == shard.global_shape.size() && box.shape.size() == shard.global_shape.size();
  for (std::size_t dim = 0; inside && dim < box.shape.size(); ++dim) {
    inside = box.offset[dim] >= 0 && box.offset[dim] + box.shape[dim] <= shard.global_shape[dim];
  }
  if (!inside) throw std::invalid_argument("the shard of " + shard.name + " does not lie within the tensor's global shape");
  return box;
}

}  // namespace trainyard::checkpoint
