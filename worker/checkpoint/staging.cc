#include "worker/checkpoint/staging.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace trainyard::checkpoint {
namespace {

// Long enough for a disk to be as fast as it gets, and short beside all of the memory, so that copies and writes overlap.
constexpr std::int64_t kMostChunkBytes = std::int64_t{16} << 20;
constexpr std::int64_t kLeastChunks = 8;
constexpr std::size_t kAlignment = 16;  // of pieces in memory: no type of tensor needs more

std::size_t aligned(std::size_t at) { return (at + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Staging::Staging(const std::vector<TensorShard>& shards, std::int64_t most_bytes)
    : chunk_bytes_(std::min(kMostChunkBytes, most_bytes / kLeastChunks)),
      most_chunks_(most_bytes / std::max<std::int64_t>(1, chunk_bytes_)) {
  if (chunk_bytes_ < static_cast<std::int64_t>(kAlignment)) throw std::invalid_argument("too little memory to save through");
  for (const auto& shard : shards) {
    if (!shard.writes || shard.local.numel() == 0) continue;
    tensors_.push_back({shard.name, shard.local.scalar_type(), shard.global_shape, box_of(shard)});
    sources_.push_back(shard.local.detach());
    cut(tensors_.size() - 1, tensors_.back().box);
  }
  const auto count = static_cast<std::int64_t>(chunks_.size());
  buffer_ = std::make_unique<StagingBuffer>(count, std::min(most_chunks_, count));
}

std::int64_t Staging::memory_bytes() const {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < chunks_.size() && static_cast<std::int64_t>(i) < most_chunks_; ++i) {
    bytes += i + 1 == chunks_.size() ? static_cast<std::int64_t>(chunks_[i].bytes) : chunk_bytes_;
  }
  return bytes;
}

// ---- cutting

/// Into pieces that are consecutive in the tensor, each as long as the rest of a chunk lets it.
void Staging::cut(std::size_t tensor, Box rest) {
  const auto element_bytes = static_cast<std::int64_t>(c10::elementSize(tensors_[tensor].type));
  while (num_elements(rest.shape) > 0) {
    const auto first = std::find_if(rest.shape.begin(), rest.shape.end(), [](std::int64_t size) { return size > 1; });
    const std::int64_t bytes = num_elements(rest.shape) * element_bytes;
    if (first == rest.shape.end()) return place(tensor, rest, bytes);  // one element, a scalar's too
    const auto dim = static_cast<std::size_t>(first - rest.shape.begin());
    cut_between(tensor, rest, dim, bytes / *first);
  }
}

/// Places as many rows of the dim, before which all are of size 1, as there is room for, and leaves those behind them in `rest`.
void Staging::cut_between(std::size_t tensor, Box& rest, std::size_t dim, std::int64_t row_bytes) {
  Box part = rest;
  if (row_bytes > chunk_bytes_) {
    part.shape[dim] = 1;
    cut(tensor, part);
  } else {
    if (row_bytes > room_left()) chunks_.emplace_back();
    part.shape[dim] = std::min(rest.shape[dim], room_left() / row_bytes);
    place(tensor, part, part.shape[dim] * row_bytes);
  }
  rest.offset[dim] += part.shape[dim];
  rest.shape[dim] -= part.shape[dim];
}

std::int64_t Staging::room_left() const {
  if (chunks_.empty()) return 0;
  return chunk_bytes_ - static_cast<std::int64_t>(aligned(chunks_.back().bytes));
}

void Staging::place(std::size_t tensor, const Box& box, std::int64_t bytes) {
  if (bytes > room_left()) chunks_.emplace_back();
  auto& chunk = chunks_.back();
  const std::size_t at = aligned(chunk.bytes);
  chunk.pieces.push_back({.tensor = tensor, .box = box, .at = at});
  chunk.bytes = at + static_cast<std::size_t>(bytes);
}

// ---- copying and writing

at::Tensor Staging::in_memory(std::byte* memory, const Piece& piece) const {
  return at::from_blob(memory + piece.at, piece.box.shape, tensors_[piece.tensor].type);
}

bool Staging::copy(std::chrono::steady_clock::time_point until) {
  try {
    for (; copied_ < chunks_.size(); ++copied_) {
      const auto& chunk = chunks_[copied_];
      const bool is_last = copied_ + 1 == chunks_.size();
      auto memory = buffer_->room(is_last ? chunk.bytes : static_cast<std::size_t>(chunk_bytes_), until);
      if (!memory) {
        if (!buffer_->is_refused()) return false;
        copied_ = chunks_.size();
        break;
      }
      for (const auto& piece : chunk.pieces) {
        in_memory(memory.get(), piece).copy_(view_of(sources_[piece.tensor], tensors_[piece.tensor].box.offset, piece.box));
      }
      buffer_->hand_on(std::move(memory));
    }
  } catch (...) {
    buffer_->abandon();
    throw;
  }
  sources_.clear();
  return true;
}

bool Staging::write(const Write& each, const std::stop_token& stop) {
  for (const auto& chunk : chunks_) {
    auto memory = buffer_->next(stop);
    if (!memory) return false;
    for (const auto& piece : chunk.pieces) {
      if (stop.stop_requested()) return false;
      each(piece.tensor, piece.box, in_memory(memory.get(), piece));
    }
    buffer_->give_back(std::move(memory));
  }
  return true;
}

void Staging::end() { buffer_->refuse(); }

}  // namespace trainyard::checkpoint
