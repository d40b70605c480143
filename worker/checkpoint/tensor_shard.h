#pragma once
// A rank's part of a tensor, as the engine names it to checkpoints.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>

namespace trainyard::checkpoint {

/// A box of a tensor: [offset, offset + shape) in each dim.
struct Box {
  std::vector<std::int64_t> offset;
  std::vector<std::int64_t> shape;
  bool operator==(const Box&) const = default;
};

/// Elements of a shape; 1 of a scalar's.
std::int64_t num_elements(const std::vector<std::int64_t>& shape);
/// What two boxes of one tensor share; a box with a 0 in its shape when they share nothing.
Box intersection(const Box& a, const Box& b);

/// The part `box` of a tensor that lies at `origin` in the unsharded one.
at::Tensor view_of(at::Tensor tensor, const std::vector<std::int64_t>& origin, const Box& box);

/// Of a tensor that may be kept as codes of 8 bits with a scale a block (worker/plan/moments.h), here or in a checkpoint. There the codes
/// have the tensor's name and shape, and the scales a name of their own.
struct Codes {
  bool is_signed = true;
  std::int64_t segment = 0;  // plan::moment_segment()
  std::string scales_name;
  at::Tensor scales = {};  // of `local`, FP32; undefined where that has numbers
};

/// Names are those of Hugging Face for weights (`model.layers.0.self_attn.q_proj.weight`), and `<state>.<weight's name>` for what
/// belongs to one (`optimizer.exp_avg.model.norm.weight`). Each name once a rank.
struct TensorShard {
  std::string name;
  at::Tensor local;                        // [box.shape], any device, any strides; loading copies into it
  std::vector<std::int64_t> global_shape;  // of the unsharded tensor
  std::vector<std::int64_t> offset;        // of `local` in it
  bool writes = true;                      // of the ranks that hold the same box, exactly one writes it
  std::optional<Codes> codes = {};
};

/// The shard's box. Throws std::invalid_argument, naming the tensor, when it does not lie within the global shape.
Box box_of(const TensorShard& shard);

}  // namespace trainyard::checkpoint
