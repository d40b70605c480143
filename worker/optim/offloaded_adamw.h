#pragma once
// AdamW's step where masters, moments and gradients lie in the host's memory and the device has the weights: the CPU's cores compute it,
// block by block, while the last blocks' weights go up.
//
//   cores  | AdamW 1     | AdamW 2     | AdamW 3   | …
//   up                   | weights 1   | weights 2 | …
//
// So a step takes as long as the slower of the two: about 30 bytes a parameter of the host's memory, 2 (in FP32 4) up. The gradients came
// down during backward (worker/schedule/offloaded_sums.h).
// Source: Ren et al., "ZeRO-Offload", arXiv:2101.06840, section 4.2.

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/mesh/host_link.h"
#include "worker/optim/adamw_on_cpu.h"

namespace trainyard::optim {

/// Lives on the training thread; `link` must outlive it.
class OffloadedAdamW {
 public:
  /// Of tensors whose masters, these, moments and gradients are on the host. Weights are on the device; with `weights_on_host` beside the
  /// masters. `segments`: of each tensor that of its moments, AdamWTensors::segment.
  OffloadedAdamW(mesh::HostLink& link, const std::vector<at::Tensor>& masters, const std::vector<std::int64_t>& segments,
                 at::ScalarType weight_type, bool weights_on_host);
  ~OffloadedAdamW();
  OffloadedAdamW(const OffloadedAdamW&) = delete;
  OffloadedAdamW& operator=(const OffloadedAdamW&) = delete;

  /// One step, with the numbers of each tensor. Gradients stay as they are. Masters and moments are changed when it returns; weights in the
  /// order of the current stream.
  void step(const std::vector<AdamWTensors>& tensors, const std::vector<AdamWNumbers>& numbers);

 private:
  /// Some elements of a tensor. Where a tensor is cut is a multiple of adamw_piece(), so that the same elements are vectors and remainders.
  struct Piece {
    std::size_t tensor = 0;
    std::int64_t first = 0, count = 0;
    std::int64_t at = 0;  // in the block
  };
  using Block = std::vector<Piece>;
  /// Room for a block on its way, and how far it is.
  struct Buffer {
    at::Tensor memory;
    std::unique_ptr<mesh::Crossing> crossing;
  };
  void send_weights(std::size_t block, const std::vector<AdamWTensors>& tensors);
  void update(std::size_t block, const std::vector<AdamWTensors>& tensors, const std::vector<AdamWNumbers>& numbers);
  Buffer& buffer_of(std::size_t block) { return weights_[block % weights_.size()]; }

  mesh::HostLink& link_;
  bool weights_on_host_;
  std::vector<Block> blocks_;
  std::vector<Buffer> weights_;  // none where they stay on the host
  Cores cores_;
};

}  // namespace trainyard::optim
