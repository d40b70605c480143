#include "worker/optim/gradient_norm.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "worker/plan/shards.h"

#ifdef TRAINYARD_CUDA
#include "worker/optim/norm_on_gpu.h"
#endif

namespace trainyard::optim {
namespace {

/// Squares, in FP64, of the elements of block `block` that are on this rank, at their places in the block.
void fill_with_squares(std::array<double, kNormBlock>& squares, const float* packed, const NormCut& cut, std::int64_t block) {
  const std::int64_t begin = block * kNormBlock, end = std::min(begin + kNormBlock, cut.elements);
  for (std::int64_t row = begin / cut.row; row * cut.row < end; ++row) {
    const std::int64_t start = row * cut.row + cut.begin;  // of what this rank has of the row, in the unsharded tensor
    const std::int64_t from = std::max(start, begin), to = std::min(start + cut.width, end);
    if (to <= from) continue;
    const float* const in = packed + row * cut.width + (from - start);
    double* const out = squares.data() + (from - begin);
    for (std::int64_t i = 0; i < to - from; ++i) {
      const double value = in[i];
      out[i] = value * value;
    }
  }
}

/// Adds the second half to the first until one number is left of `size`, a power of two. By a plain loop: on a CPU several times faster
/// than tensor operations.
double halved(double* values, std::size_t size) {
  for (std::size_t half = size / 2; half >= 1; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) values[i] += values[i + half];
  }
  return values[0];
}

/// The halving sum of one block. What lies beyond the tensor is zero, which changes no sum of squares: a small tensor's block is halved from
/// the power of two on that holds it.
double block_sum(const float* packed, const NormCut& cut, std::int64_t block) {
  std::array<double, kNormBlock> squares;
  const auto inside = static_cast<std::size_t>(std::min<std::int64_t>(kNormBlock, cut.elements - block * kNormBlock));
  const std::size_t size = std::bit_ceil(inside);
  std::fill_n(squares.begin(), size, 0.0);
  fill_with_squares(squares, packed, cut, block);
  return halved(squares.data(), size);
}

at::Tensor block_sums_on_cpu(const at::Tensor& packed, const NormCut& cut, Cores* cores) {
  at::Tensor sums = at::empty({cut.num_blocks()}, at::kDouble);
  const float* const in = packed.const_data_ptr<float>();
  double* const out = sums.data_ptr<double>();
  constexpr std::int64_t kAtATime = 16;
  const auto sum = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) out[block] = block_sum(in, cut, block);
  };
  if (cores == nullptr) {
    at::parallel_for(0, cut.num_blocks(), kAtATime, sum);
  } else {
    cores->share((cut.num_blocks() + kAtATime - 1) / kAtATime,
                 [&](std::int64_t i) { sum(i * kAtATime, std::min((i + 1) * kAtATime, cut.num_blocks())); });
  }
  return sums;
}

double halving_sum_on_cpu(const at::Tensor& values) {
  const auto count = static_cast<std::size_t>(values.numel());
  std::vector<double> filled(std::bit_ceil(count), 0.0);
  const at::Tensor packed = values.contiguous();
  std::copy_n(packed.const_data_ptr<double>(), count, filled.begin());
  return halved(filled.data(), filled.size());
}

}  // namespace

NormCut norm_cut(const plan::Parameter& parameter, const plan::Box& box) {
  NormCut cut{.elements = plan::num_elements(parameter.shape)};
  cut.row = cut.width = cut.elements;
  std::int64_t inner = 1;
  for (std::size_t dim = box.sizes.size(); dim-- > 0; inner *= parameter.shape[dim]) {
    if (box.sizes[dim] == parameter.shape[dim]) continue;
    cut.row = parameter.shape[dim] * inner;
    cut.begin = box.offsets[dim] * inner;
    cut.width = box.sizes[dim] * inner;
  }
  return cut;
}

at::Tensor block_sums(const at::Tensor& gradient, const plan::Parameter& parameter, const plan::Box& box, Cores* cores) {
#ifdef TRAINYARD_CUDA
  if (gradient.is_cuda()) return block_sums_on_gpu(gradient, norm_cut(parameter, box));
#endif
  return block_sums_on_cpu(gradient.contiguous(), norm_cut(parameter, box), cores);
}

at::Tensor block_sums_of_shard(const at::Tensor& gradient, const plan::Parameter& parameter, const plan::Box& box, Cores* cores) {
  const std::int64_t row = plan::num_elements(parameter.shape) / parameter.shape[0], step = plan::rows_between_cuts(parameter);
  const std::int64_t blocks = (plan::num_elements(parameter.shape) + kNormBlock - 1) / kNormBlock;
  at::Tensor sums = at::zeros({blocks}, gradient.options().dtype(at::kDouble));
  if (box.sizes[0] == 0) return sums;
  // As a tensor of its own that begins where a block does: the shard's own rows, and those around it that share its first and its last
  // block, which tensor parallelism has on another rank.
  const std::int64_t first = box.offsets[0] / step * step;
  const std::int64_t last = std::min(parameter.shape[0], (box.offsets[0] + box.sizes[0] + step - 1) / step * step);
  plan::Parameter rows = parameter;
  rows.shape[0] = last - first;
  plan::Box inside = box;
  inside.offsets[0] -= first;
  const at::Tensor own = block_sums(gradient, rows, inside, cores);
  sums.narrow(0, first * row / kNormBlock, own.numel()).copy_(own);
  return sums;
}

at::Tensor halving_sum(const at::Tensor& values) {
#ifdef TRAINYARD_CUDA
  if (values.is_cuda()) return halving_sum_on_gpu(values);
#endif
  return at::scalar_tensor(halving_sum_on_cpu(values), values.options());
}

GradientNorm::GradientNorm(std::vector<plan::Parameter> all, std::vector<NormPart> parts, mesh::Mesh& mesh,
                           contract::Reduction reduction, bool sharded, bool on_host)
    : all_(std::move(all)), parts_(std::move(parts)), mesh_(mesh), reduction_(reduction), sharded_(sharded) {
  if (on_host) cores_ = std::make_unique<Cores>();
}

GradientNorm::Measured GradientNorm::measure(const std::vector<at::Tensor>& gradients, const at::Tensor& loss) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> blocks;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto& parameter = all_[parts_[i].index];
    const auto& box = parts_[i].box;
    blocks.push_back(sharded_ ? block_sums_of_shard(gradients[i], parameter, box, cores_.get())
                              : block_sums(gradients[i], parameter, box, cores_.get()));
    // A tensor that is not cut is the same on all tensor-parallel ranks: one of them counts.
    if (!parameter.split_dim && mesh_.at().tp != 0) blocks.back().zero_();
  }
  const bool sharded = sharded_ && mesh_.shards().size() > 1;
  if (sharded || cores_ || mesh_.tensor().size() > 1) {
    at::Tensor flat = at::cat(blocks).to(mesh_.device());
    if (sharded) mesh_.shards().all_reduce(flat, mesh::ReduceOp::kSum);  // adds zeros: exact
    if (mesh_.tensor().size() > 1) add_over_tensor_ranks(flat);
    for (std::int64_t first = 0; auto& sums : blocks) {
      sums = flat.narrow(0, first, sums.numel());
      first += sums.numel();
    }
  }
  // By tensor; then the loss.
  const auto num_tensors = static_cast<std::int64_t>(all_.size());
  at::Tensor sums = at::zeros({num_tensors + 1}, at::TensorOptions().dtype(at::kDouble).device(mesh_.device()));
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (all_[parts_[i].index].owner() != mesh_.at().pp) continue;
    if (sums.is_cpu()) {
      sums.data_ptr<double>()[parts_[i].index] = halving_sum_on_cpu(blocks[i]);
    } else {
      sums[static_cast<std::int64_t>(parts_[i].index)].copy_(halving_sum(blocks[i]));
    }
  }
  sums[num_tensors].copy_(loss);
  if (mesh_.pipeline().size() > 1) mesh_.pipeline().all_reduce(sums, mesh::ReduceOp::kSum);  // adds zeros: exact
  const at::Tensor host = sums.cpu();
  const double* const values = host.const_data_ptr<double>();
  double squares = 0;
  for (std::int64_t i = 0; i < num_tensors; ++i) squares += values[i];
  return {.norm = std::sqrt(squares), .loss = values[num_tensors]};
}

/// A block has elements of as many tensor ranks as share it, all of them where a row is cut, and a ring adds three or more terms in an order
/// that goes by a number's place in the vector; how long that is depends on the pipeline. So Canonical gathers, and adds in rank order.
void GradientNorm::add_over_tensor_ranks(at::Tensor& flat) {
  mesh::Comm& tensor = mesh_.tensor();
  if (reduction_ == contract::Reduction::kFast) return tensor.all_reduce(flat, mesh::ReduceOp::kSum);
  constexpr std::int64_t kAtATime = 1 << 20;  // blocks: 8 MiB a rank
  for (std::int64_t first = 0; first < flat.numel(); first += kAtATime) {
    at::Tensor sum = flat.narrow(0, first, std::min(kAtATime, flat.numel() - first));
    std::vector<at::Tensor> parts;
    for (std::int32_t rank = 0; rank < tensor.size(); ++rank) parts.push_back(at::empty_like(sum));
    tensor.all_gather(parts, sum);
    sum.copy_(parts.front());
    for (std::size_t rank = 1; rank < parts.size(); ++rank) sum.add_(parts[rank]);
  }
}

double clip_coefficient(double norm, double max_norm) {
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1.0 ? 1.0 : coefficient;
}

void scale(const std::vector<at::Tensor>& gradients, double coefficient) {
  if (coefficient == 1.0) return;
  at::_foreach_mul_(gradients, coefficient);
}

}  // namespace trainyard::optim
