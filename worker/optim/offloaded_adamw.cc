#include "worker/optim/offloaded_adamw.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "worker/plan/offload_cost.h"

namespace trainyard::optim {
namespace {

at::Tensor some_of(const at::Tensor& tensor, std::int64_t first, std::int64_t count) {
  return tensor.view({-1}).narrow(0, first, count);
}

}  // namespace

OffloadedAdamW::OffloadedAdamW(mesh::HostLink& link, const std::vector<at::Tensor>& masters,
                               const std::vector<std::int64_t>& segments, at::ScalarType weight_type, bool weights_on_host)
    : link_(link), weights_on_host_(weights_on_host) {
  std::int64_t room = std::max<std::int64_t>(1, link.block_elements() / kAdamWPiece) * kAdamWPiece;
  for (const std::int64_t segment : segments) room = std::max(room, adamw_piece(segment));
  std::int64_t taken = room, largest = 0;  // of the last block
  for (std::size_t i = 0; i < masters.size(); ++i) {
    for (std::int64_t first = 0; first < masters[i].numel();) {
      const std::int64_t left = masters[i].numel() - first, piece = adamw_piece(segments[i]);
      const std::int64_t fits = left <= room - taken ? left : (room - taken) / piece * piece;
      if (fits == 0) {
        blocks_.emplace_back();
        taken = 0;
        continue;
      }
      blocks_.back().push_back({.tensor = i, .first = first, .count = fits, .at = taken});
      first += fits;
      taken += fits;
      largest = std::max(largest, taken);
    }
  }
  if (weights_on_host) return;
  for (std::int64_t i = 0; i < plan::kOffloadBuffers; ++i) weights_.push_back({link.memory({largest}, weight_type), nullptr});
}

OffloadedAdamW::~OffloadedAdamW() = default;

void OffloadedAdamW::send_weights(std::size_t block, const std::vector<AdamWTensors>& tensors) {
  auto& buffer = buffer_of(block);
  buffer.crossing = link_.start(mesh::Way::kUp, [&pieces = blocks_[block], from = buffer.memory, &tensors] {
    for (const auto& [tensor, first, count, at] : pieces) {
      some_of(tensors[tensor].weight, first, count).copy_(from.narrow(0, at, count), /*non_blocking=*/true);
    }
  });
}

void OffloadedAdamW::update(std::size_t block, const std::vector<AdamWTensors>& tensors,
                            const std::vector<AdamWNumbers>& numbers) {
  const at::Tensor weights = weights_on_host_ ? at::Tensor() : buffer_of(block).memory;
  std::vector<Piece> pieces;
  for (const auto& [tensor, first, count, at] : blocks_[block]) {
    const std::int64_t piece = adamw_piece(tensors[tensor].segment);
    for (std::int64_t done = 0; done < count; done += piece) {
      pieces.push_back({.tensor = tensor, .first = first + done, .count = std::min(piece, count - done), .at = at + done});
    }
  }
  cores_.share(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const auto& [tensor, first, count, at] = pieces[static_cast<std::size_t>(i)];
    auto of = tensors[tensor];
    if (!weights_on_host_) of.weight.reset();
    auto piece = some_of(of, first, count);
    auto scaled = numbers[tensor];
    // Not where it lies: that would be one more way to memory and back.
    if (scaled.gradient_scale != 1.0F) piece.gradient = piece.gradient.mul(std::exchange(scaled.gradient_scale, 1.0F));
    if (!weights_on_host_) piece.weight = weights.narrow(0, at, count);
    adamw_step_on_cpu(piece, scaled);
  });
}

void OffloadedAdamW::step(const std::vector<AdamWTensors>& tensors, const std::vector<AdamWNumbers>& numbers) {
  for (std::size_t block = 0; block < blocks_.size(); ++block) {
    if (!weights_on_host_) {
      auto& sent = buffer_of(block).crossing;  // the block that was there before
      if (sent) sent->wait_on_host();
    }
    update(block, tensors, numbers);
    if (!weights_on_host_) send_weights(block, tensors);
  }
  if (!weights_on_host_ && !blocks_.empty()) buffer_of(blocks_.size() - 1).crossing->wait_on_device();
}

}  // namespace trainyard::optim
