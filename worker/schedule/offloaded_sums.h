#pragma once
// Sums of gradients that lie in the host's memory (zero.offload.optimizer): the device has one only while it is added to.
//
//   a micro-batch's first    device ─ down ─> host
//   another's                host ─ up ─> device, added there, device ─ down ─> host
//
// So the device adds, which it does faster than the host's memory would, and both ways go beside what it computes. A sum that is on its
// way down is on the device until the next one goes.
// Source: Ren et al., "ZeRO-Offload", arXiv:2101.06840, section 4.1, and DeepSpeed's async_accumulate_grad_in_cpu_via_gpu.

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/ATen.h>

#include "worker/mesh/host_link.h"

namespace trainyard::schedule {

/// Lives on the training thread, and in backward on the thread of autograd while that one waits. `link` must outlive it.
class OffloadedSums {
 public:
  /// `elements`: of each sum, FP32. Takes the host's memory at once, for as long as it lives.
  OffloadedSums(mesh::HostLink& link, const std::vector<std::int64_t>& elements);
  ~OffloadedSums();
  OffloadedSums(const OffloadedSums&) = delete;
  OffloadedSums& operator=(const OffloadedSums&) = delete;

  /// Before a step: there is nothing to add to.
  void begin();

  /// A sum on its way up.
  struct Up {
    at::Tensor sum;                            // on the device; undefined where there is nothing to add to
    std::unique_ptr<mesh::Crossing> crossing;  // to be waited for on the device before the sum is used
  };
  Up bring_up(std::size_t which, at::Device device);
  /// Takes `sum` over: it may change no more. The device waits for the one that went before.
  void send_down(std::size_t which, at::Tensor sum);
  /// Returns when all are down.
  void settle();
  /// On the host; after settle(), until the next begin().
  const at::Tensor& sum(std::size_t which) const { return sums_.at(which); }

 private:
  struct Down {
    std::size_t which = 0;
    at::Tensor sum;
    std::unique_ptr<mesh::Crossing> crossing;  // null: none is under way
  };
  mesh::HostLink& link_;
  std::vector<at::Tensor> sums_;  // on the host
  std::vector<bool> has_;
  Down down_;
};

}  // namespace trainyard::schedule
