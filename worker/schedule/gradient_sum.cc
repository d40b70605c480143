#include "worker/schedule/gradient_sum.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

namespace trainyard::schedule {
namespace {

Summand in_fp32(Summand sum) {
  for (auto& tensor : sum) {
    if (tensor.defined()) tensor = tensor.to(at::kFloat);
  }
  return sum;
}

/// As `left.add_(right)`. A CPU's addition of another type to FP32 has all of `right` in FP32 first; by some rows after the others it is as many
/// numbers at a time as its threads share anyway.
void add_to(const at::Tensor& left, const at::Tensor& right) {
  const std::int64_t numbers = at::internal::GRAIN_SIZE * at::get_num_threads();
  if (right.scalar_type() == left.scalar_type() || left.numel() <= numbers) {
    left.add_(right);
    return;
  }
  const std::int64_t all = left.size(0), rows = std::max<std::int64_t>(1, numbers / (left.numel() / all));
  for (std::int64_t first = 0; first < all; first += rows) {
    const std::int64_t count = std::min(rows, all - first);
    left.narrow(0, first, count).add_(right.narrow(0, first, count));
  }
}

/// Gives the tensors of `sum` the memory of `flat`, instead of copying back.
void place_in(const at::Tensor& flat, Summand& sum) {
  std::int64_t first = 0;
  for (auto& tensor : sum) {
    const std::int64_t count = tensor.numel();
    tensor = flat.narrow(0, first, count).view(tensor.sizes());
    first += count;
  }
}

void reduce_by_tree(mesh::Comm& group, at::Tensor& flat, std::int64_t chunk_elements) {
  for (std::int64_t first = 0; first < flat.numel(); first += chunk_elements) {
    at::Tensor chunk = flat.narrow(0, first, std::min(chunk_elements, flat.numel() - first));
    std::vector<at::Tensor> parts;
    for (std::int32_t rank = 0; rank < group.size(); ++rank) parts.push_back(at::empty_like(chunk));
    group.all_gather(parts, chunk);
    chunk.copy_(tree_sum(std::move(parts)));
  }
}

}  // namespace

at::Tensor flattened(const Summand& sum) {
  std::vector<at::Tensor> flat;
  for (const auto& tensor : sum) flat.push_back(tensor.reshape({-1}));
  return at::cat(flat);
}

at::Tensor tree_sum(std::vector<at::Tensor> summands) {
  const auto join = [](const at::Tensor& left, const at::Tensor& right) { return left.add_(right); };
  plan::BalancedSum<at::Tensor, decltype(join)> tree(join);
  for (auto& summand : summands) tree.add(std::move(summand));
  return tree.take();
}

Summand joined(Summand left, const Summand& right) {
  if (!left.front().is_cpu()) {
    at::_foreach_add_(left, right);
    return left;
  }
  for (std::size_t i = 0; i < left.size(); ++i) add_to(left[i], right[i]);
  return left;
}

GradientSum::GradientSum(contract::Reduction reduction)
    : reduction_(reduction), tree_([](Summand left, const Summand& right) { return joined(in_fp32(std::move(left)), right); }) {}

void GradientSum::add(Summand summand) {
  const at::NoGradGuard no_grad;
  if (reduction_ == contract::Reduction::kCanonical) {
    tree_.add(std::move(summand));
  } else {
    running_ = running_.empty() ? in_fp32(std::move(summand)) : joined(std::move(running_), summand);
  }
}

Summand GradientSum::take() {
  const at::NoGradGuard no_grad;
  if (reduction_ == contract::Reduction::kCanonical) return in_fp32(tree_.take());
  return std::exchange(running_, {});
}

void reduce_over(mesh::Comm& group, contract::Reduction reduction, Summand& sum, std::int64_t chunk_elements) {
  if (group.size() == 1) return;
  const at::NoGradGuard no_grad;
  at::Tensor flat = flattened(sum);
  if (reduction == contract::Reduction::kCanonical) {
    reduce_by_tree(group, flat, chunk_elements);
  } else {
    group.all_reduce(flat, mesh::ReduceOp::kSum);
  }
  place_in(flat, sum);
}

}  // namespace trainyard::schedule
