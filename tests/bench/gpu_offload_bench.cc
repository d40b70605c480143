// The step of an offloaded optimizer against its pipelined bound, in one run on one GPU: the longer of what the CPU's arithmetic and the
// copies up take each for themselves. Passes where the step takes at most 10 % longer. Gradients come down before, beside backward: what
// their copies take is told too. docs/performance.md reads it.
//
//   gpu_offload_bench [millions of parameters, default 1000] [threads, default all]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/cuda.h>

#include "worker/mesh/host_link.h"
#include "worker/optim/adamw.h"
#include "worker/optim/adamw_on_cpu.h"
#include "worker/plan/offload_cost.h"

namespace {

using namespace trainyard;
constexpr int kRounds = 5;
constexpr double kBar = 0.9;

/// The median of some rounds, after one that is not counted, in seconds. The GPU is idle before and after each.
double seconds_of(const std::function<void()>& work) {
  std::vector<double> rounds;
  for (int i = 0; i <= kRounds; ++i) {
    torch::cuda::synchronize();
    const auto begin = std::chrono::steady_clock::now();
    work();
    torch::cuda::synchronize();
    rounds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  rounds.erase(rounds.begin());
  std::sort(rounds.begin(), rounds.end());
  return rounds[kRounds / 2];
}

/// Copies `total` elements in blocks, between the device and staging of a few blocks.
double copying(mesh::HostLink& link, mesh::Way way, at::ScalarType type, std::int64_t total, at::Device device) {
  const std::int64_t block = link.block_elements();
  const at::Tensor on_device = at::zeros({total}, at::TensorOptions(type).device(device));
  std::vector<at::Tensor> staging;
  for (std::int64_t i = 0; i < plan::kOffloadBuffers; ++i) staging.push_back(link.memory({block}, type).zero_());
  return seconds_of([&] {
    std::unique_ptr<mesh::Crossing> last;
    for (std::int64_t first = 0, i = 0; first < total; first += block, ++i) {
      const std::int64_t count = std::min(block, total - first);
      const at::Tensor there = on_device.narrow(0, first, count);
      const at::Tensor here = staging[static_cast<std::size_t>(i % plan::kOffloadBuffers)].narrow(0, 0, count);
      last = link.start(way, [&] {
        if (way == mesh::Way::kDown) {
          here.copy_(there, true);
        } else {
          there.copy_(here, true);
        }
      });
    }
    last->wait_on_host();
  });
}

/// As the optimizer has them: a layer's matrices, again and again.
std::vector<at::Tensor> tensors(std::int64_t total, const std::function<at::Tensor(std::int64_t)>& make) {
  constexpr std::int64_t kMatrix = 4096 * 14336;
  std::vector<at::Tensor> all;
  for (std::int64_t left = total; left > 0; left -= kMatrix) all.push_back(make(std::min(left, kMatrix)));
  return all;
}

double stepping(mesh::HostLink& link, const std::vector<at::Tensor>& masters, const std::vector<at::Tensor>& gradients,
                const std::vector<at::Tensor>& weights) {
  std::vector<optim::Trained> trained;
  for (std::size_t i = 0; i < masters.size(); ++i) {
    trained.push_back({.master = masters[i], .decays = true, .weight = weights[i]});
  }
  optim::AdamW optimizer({}, trained, {.link = &link});
  return seconds_of([&] { optimizer.step(gradients, 1e-4, 0.9); });
}

/// The arithmetic alone, of what is on the host already.
double computing(const std::vector<at::Tensor>& masters, const std::function<std::vector<at::Tensor>(at::ScalarType)>& on_host) {
  const auto averages = on_host(at::kFloat), squares = on_host(at::kFloat), gradients = on_host(at::kFloat),
             weights = on_host(at::kBFloat16);
  optim::AdamWNumbers numbers = optim::adamw_numbers({}, 1, 1e-4, true);
  numbers.gradient_scale = 0.9F;
  optim::Cores cores;
  return seconds_of([&] {
    for (std::size_t i = 0; i < masters.size(); ++i) {
      const std::int64_t all = masters[i].numel();
      cores.share((all + optim::kAdamWPiece - 1) / optim::kAdamWPiece, [&](std::int64_t piece) {
        const auto part = [&](const at::Tensor& tensor) {
          const std::int64_t first = piece * optim::kAdamWPiece;
          return tensor.narrow(0, first, std::min(optim::kAdamWPiece, all - first));
        };
        optim::adamw_step_on_cpu({part(masters[i]), part(averages[i]), part(squares[i]), part(gradients[i]), part(weights[i])},
                                 numbers);
      });
    }
  });
}

}  // namespace

int main(int count, char** arguments) {
  if (!torch::cuda::is_available()) {
    std::printf("gpu_offload_bench: there is no GPU here\n");
    return 0;
  }
  const at::NoGradGuard no_grad;
  const std::int64_t total = (count > 1 ? std::atoll(arguments[1]) : 1000) * 1'000'000;
  at::set_num_threads(count > 2 ? std::atoi(arguments[2]) : static_cast<int>(std::thread::hardware_concurrency()));
  const at::Device device(at::kCUDA, 0);
  const auto link = mesh::host_link(device);
  const auto on_device = [&](at::ScalarType type) {
    return tensors(total, [&](std::int64_t size) { return at::full({size}, 1e-3, at::TensorOptions(type).device(device)); });
  };
  const auto masters = tensors(total, [&](std::int64_t size) { return link->memory({size}, at::kFloat).fill_(0.02); });
  const auto gradients = tensors(total, [&](std::int64_t size) { return link->memory({size}, at::kFloat).fill_(1e-3); });
  const auto weights = on_device(at::kBFloat16);
  const double down = copying(*link, mesh::Way::kDown, at::kFloat, total, device);
  const double up = copying(*link, mesh::Way::kUp, at::kBFloat16, total, device);
  const double cores = computing(masters, [&](at::ScalarType type) {
    return tensors(total, [&](std::int64_t size) { return at::full({size}, 1e-3, type); });
  });
  const double step = stepping(*link, masters, gradients, weights), bound = std::max(cores, up);
  const auto rate = [&](double bytes, double seconds) { return static_cast<double>(total) * bytes / seconds / 1e9; };
  std::printf("offloaded AdamW of %.1f billion parameters, BF16 weights, %d threads\n", static_cast<double>(total) / 1e9,
              at::get_num_threads());
  std::printf(
      "  gradients down  %7.3f s  %6.1f GB/s, beside backward\n  CPU alone       %7.3f s  %6.1f GB/s of memory\n  weights up     "
      " %7.3f s  %6.1f "
      "GB/s\n",
      down, rate(4, down), cores, rate(30, cores), up, rate(2, up));
  std::printf("  the step        %7.3f s, bound %7.3f s: %.2f of the bound's speed (bar %.2f), one after the other %7.3f s\n",
              step, bound, bound / step, kBar, cores + up);
  return bound / step >= kBar ? 0 : 1;
}
