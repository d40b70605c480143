#include "worker/optim/adamw_on_cpu.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/thread_pool.h>

namespace trainyard::optim {

namespace {

void step_in_fp32(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  const auto& [master, average, square, gradient, weight] = tensors;
  if (numbers.gradient_scale != 1.0F) gradient.mul_(numbers.gradient_scale);
  if (numbers.decay != 1.0F) master.mul_(numbers.decay);
  average.lerp_(gradient, numbers.average_weight);
  square.mul_(numbers.square_decay).addcmul_(gradient, gradient, numbers.square_weight);
  const at::Tensor denominator = square.sqrt().div_(numbers.correction_root).add_(numbers.epsilon);
  master.addcdiv_(average, denominator, -numbers.step_size);
  if (weight.defined()) weight.copy_(master);
}

}  // namespace

void adamw_step_on_cpu(const AdamWTensors& tensors, const AdamWNumbers& numbers) {
  const at::NoGradGuard no_grad;
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
