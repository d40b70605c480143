#include "worker/model/initial_values.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

namespace trainyard::model {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;

std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

std::uint64_t key_of(std::int64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char letter : name) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  return mix(hash + mix(static_cast<std::uint64_t>(seed)));
}

double normal_value(std::uint64_t key, std::int64_t index) {
  const auto draw = [key](std::uint64_t n) { return mix(key + (n + 1) * kGolden) >> 11; };
  const std::uint64_t n = 2 * static_cast<std::uint64_t>(index);
  const double u = static_cast<double>(draw(n) + 1) * 0x1p-53, v = static_cast<double>(draw(n + 1)) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

double standard_deviation(plan::Initial initial, std::int32_t layers) {
  switch (initial) {
    case plan::Initial::kNormal: return 0.02;
    case plan::Initial::kResidualNormal: return 0.02 / std::sqrt(2.0 * layers);
    case plan::Initial::kOnes: return 0.0;
  }
  return 0.0;
}

void fill_initial_values(at::Tensor& local, const plan::Parameter& parameter, const plan::Box& box, std::int64_t seed,
                         std::int32_t layers) {
  const at::NoGradGuard no_grad;
  if (parameter.initial == plan::Initial::kOnes) {
    local.fill_(1.0);
    return;
  }
  const std::uint64_t key = key_of(seed, parameter.name);
  const double deviation = standard_deviation(parameter.initial, layers);
  const at::Tensor host = at::empty(box.sizes, at::kFloat);
  float* const out = host.data_ptr<float>();
  const std::int64_t rows = box.sizes.at(0), columns = box.sizes.at(1), global_columns = parameter.shape.at(1);
  // Threads of our own: at::parallel_for is a plain loop in a program that is not compiled for OpenMP, and these values are far dearer
  // than a thread. A thread's share are whole rows, so the values do not depend on how many there are.
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), 1 + rows * columns / (1 << 16));
  const auto fill = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t first = (box.offsets[0] + row) * global_columns + box.offsets[1];
      for (std::int64_t column = 0; column < columns; ++column) {
        out[row * columns + column] = static_cast<float>(deviation * normal_value(key, first + column));
      }
    }
  };
  std::vector<std::jthread> others;
  for (std::int64_t i = 1; i < threads; ++i) others.emplace_back(fill, rows * i / threads, rows * (i + 1) / threads);
  fill(0, rows / threads);
  others.clear();  // joins them
  local.copy_(host);
}

}  // namespace trainyard::model
