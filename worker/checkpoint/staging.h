#pragma once
// From the training's tensors to the file of a save, through host memory of bounded size: the training thread copies chunk by chunk while
// a helper writes. Training may go on once all is copied: it changes the tensors. What fits into the memory waits for no disk.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "worker/checkpoint/staging_buffer.h"
#include "worker/checkpoint/tensor_shard.h"

namespace trainyard::checkpoint {

/// A tensor as a rank's file has it.
struct StagedTensor {
  std::string name;
  at::ScalarType type = at::kFloat;
  std::vector<std::int64_t> global_shape;
  Box box;
};

class Staging {
 public:
  /// Of the shards that this rank writes; empty ones are left out. Takes at most `most_bytes` at a time, which at least 128 have to be.
  /// Throws std::invalid_argument where a shard does not lie within its tensor.
  Staging(const std::vector<TensorShard>& shards, std::int64_t most_bytes);

  [[nodiscard]] const std::vector<StagedTensor>& tensors() const { return tensors_; }
  /// At most, of this save.
  [[nodiscard]] std::int64_t memory_bytes() const;

  /// The training thread: copies on, waiting for the helper where the memory is full. True when nothing is left to be copied, or nobody will
  /// write it; false at `until`. After an exception, which is that of the copy (a device's, too little memory), the save is cut short.
  bool copy(std::chrono::steady_clock::time_point until);

  /// Gets `part`, on the CPU and contiguous: the numbers of `box`, in the unsharded tensor, of tensors()[tensor].
  using Write = std::function<void(std::size_t tensor, const Box& box, const at::Tensor& part)>;
  /// The helper: writes each tensor, in order, its parts in row-major order, as they come. False when it was cut short, or `stop` requested.
  bool write(const Write& each, const std::stop_token& stop);
  /// The helper will write no more, whatever is left: copy() waits for nothing.
  void end();

 private:
  /// What follows each other in a file, too.
  struct Piece {
    std::size_t tensor = 0;
    Box box;
    std::size_t at = 0;  // in its chunk
  };
  struct Chunk {
    std::vector<Piece> pieces;
    std::size_t bytes = 0;
  };

  void cut(std::size_t tensor, Box rest);
  void cut_between(std::size_t tensor, Box& rest, std::size_t dim, std::int64_t row_bytes);
  void place(std::size_t tensor, const Box& box, std::int64_t bytes);
  [[nodiscard]] std::int64_t room_left() const;
  [[nodiscard]] at::Tensor in_memory(std::byte* memory, const Piece& piece) const;

  const std::int64_t chunk_bytes_;
  std::vector<StagedTensor> tensors_;
  std::vector<Chunk> chunks_;
  const std::int64_t most_chunks_;
  std::vector<at::Tensor> sources_;  // the training thread's; empty once all is copied
  std::size_t copied_ = 0;           // chunks
  std::unique_ptr<StagingBuffer> buffer_;
};

}  // namespace trainyard::checkpoint
