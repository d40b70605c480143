#include "worker/optim/adamw_on_cpu.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <numeric>
#include <span>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/thread_pool.h>

#include "worker/plan/moments.h"

namespace trainyard::optim {

namespace {

/// Whether calls of operations take longer than what they do.
bool are_few(const AdamWTensors& tensors) {
  constexpr std::int64_t kFew = 16'384;
  const auto in_a_row = [](const at::Tensor& tensor) { return tensor.is_contiguous() && tensor.scalar_type() == at::kFloat; };
  return tensors.master.numel() <= kFew && in_a_row(tensors.master) && in_a_row(tensors.average) && in_a_row(tensors.square) &&
         in_a_row(tensors.gradient);
}

/// As below to the bit: what rounds once by definition is two loops, and the four operations are left of which LibTorch alone knows how its
/// vectors round.
void step_of_few(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  const std::int64_t count = tensors.master.numel();
  auto* const gradient = tensors.gradient.data_ptr<float>();
  auto* const master = tensors.master.data_ptr<float>();
  auto* const square = tensors.square.data_ptr<float>();
  if (numbers.gradient_scale != 1.0F) {
    for (std::int64_t i = 0; i < count; ++i) gradient[i] *= numbers.gradient_scale;
  }
  if (numbers.decay != 1.0F) {
    for (std::int64_t i = 0; i < count; ++i) master[i] *= numbers.decay;
  }
  for (std::int64_t i = 0; i < count; ++i) square[i] *= numbers.square_decay;
  tensors.average.lerp_(tensors.gradient, numbers.average_weight);
  tensors.square.addcmul_(tensors.gradient, tensors.gradient, numbers.square_weight);
  const at::Tensor roots = tensors.square.sqrt();
  auto* const root = roots.data_ptr<float>();
  for (std::int64_t i = 0; i < count; ++i) root[i] = root[i] / numbers.correction_root + numbers.epsilon;
  tensors.master.addcdiv_(tensors.average, roots, -numbers.step_size);
  if (tensors.weight.defined()) tensors.weight.copy_(tensors.master);
}

void step_in_fp32(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  if (are_few(tensors)) return step_of_few(tensors, numbers);
  const auto& [master, average, square, gradient, weight, average_scales, square_scales, segment] = tensors;
  if (numbers.gradient_scale != 1.0F) gradient.mul_(numbers.gradient_scale);
  if (numbers.decay != 1.0F) master.mul_(numbers.decay);
  average.lerp_(gradient, numbers.average_weight);
  square.mul_(numbers.square_decay).addcmul_(gradient, gradient, numbers.square_weight);
  const at::Tensor denominator = square.sqrt().div_(numbers.correction_root).add_(numbers.epsilon);
  master.addcdiv_(average, denominator, -numbers.step_size);
  if (weight.defined()) weight.copy_(master);
}

template <class T>
std::span<T> all_of(const at::Tensor& tensor) {
  return {tensor.data_ptr<T>(), static_cast<std::size_t>(tensor.numel())};
}

at::Tensor in_fp32(bool is_signed, std::int64_t segment, const at::Tensor& codes, const at::Tensor& scales) {
  const at::Tensor numbers = at::empty(codes.sizes(), at::kFloat);
  plan::decode(plan::moment_table(is_signed), segment, all_of<std::uint8_t>(codes), all_of<float>(scales),
               all_of<float>(numbers));
  return numbers;
}

void step_in_codes(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  AdamWTensors decoded = tensors;
  decoded.average = in_fp32(true, tensors.segment, tensors.average, tensors.average_scales);
  decoded.square = in_fp32(false, tensors.segment, tensors.square, tensors.square_scales);
  step_in_fp32(decoded, numbers);
  plan::encode(plan::moment_table(true), tensors.segment, all_of<float>(decoded.average), all_of<std::uint8_t>(tensors.average),
               all_of<float>(tensors.average_scales));
  plan::encode(plan::moment_table(false), tensors.segment, all_of<float>(decoded.square), all_of<std::uint8_t>(tensors.square),
               all_of<float>(tensors.square_scales));
}

}  // namespace

std::int64_t adamw_piece(std::int64_t segment) {
  if (segment == 0) return kAdamWPiece;
  constexpr std::int64_t kVectors = 64;  // LibTorch's loops take 32 elements at a time, and the last ones one by one
  const std::int64_t unit = std::lcm(segment, kVectors);
  return std::max<std::int64_t>(1, kAdamWPiece / unit) * unit;
}

AdamWTensors some_of(const AdamWTensors& tensors, std::int64_t first, std::int64_t count) {
  const auto part = [](const at::Tensor& tensor, std::int64_t from, std::int64_t length) {
    return tensor.defined() ? tensor.view({-1}).narrow(0, from, length) : tensor;
  };
  AdamWTensors out{.master = part(tensors.master, first, count),
                   .average = part(tensors.average, first, count),
                   .square = part(tensors.square, first, count),
                   .gradient = part(tensors.gradient, first, count),
                   .weight = part(tensors.weight, first, count),
                   .segment = tensors.segment};
  if (tensors.segment > 0) {
    const std::int64_t each = plan::blocks_of_segment(tensors.segment);
    const std::int64_t block = first / tensors.segment * each, blocks = count / tensors.segment * each;
    out.average_scales = part(tensors.average_scales, block, blocks);
    out.square_scales = part(tensors.square_scales, block, blocks);
  }
  return out;
}

void adamw_step_on_cpu(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  const at::NoGradGuard no_grad;
  if (tensors.segment > 0) return step_in_codes(tensors, numbers);
  if (tensors.average.scalar_type() == at::kFloat) return step_in_fp32(tensors, numbers);
  AdamWTensors in_fp32 = tensors;
  in_fp32.average = tensors.average.to(at::kFloat);
  in_fp32.square = tensors.square.to(at::kFloat);
  step_in_fp32(in_fp32, numbers);
  tensors.average.copy_(in_fp32.average);
  tensors.square.copy_(in_fp32.square);
}

Cores::Cores() : others_(std::max(1, at::get_num_threads()) - 1) {
  if (others_ > 0) pool_ = std::make_unique<c10::ThreadPool>(static_cast<int>(others_));
}

Cores::~Cores() = default;

void Cores::share(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  std::atomic<std::int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      const at::NoGradGuard no_grad;
      for (std::int64_t i = next++; i < count; i = next++) task(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  };
  const std::int64_t helpers = std::min(others_, count - 1);
  for (std::int64_t i = 0; i < helpers; ++i) pool_->run(work);
  work();
  if (helpers > 0) pool_->waitWorkComplete();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace trainyard::optim
