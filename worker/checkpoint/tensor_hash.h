#pragma once
// A hash of a tensor's content that does not depend on how it is cut: the sum, modulo 2^64, over all elements, of a mixture of the
// element's place in the unsharded tensor and its bits. Parts add up, so ranks that each hold a part verify a whole by one sum.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "worker/checkpoint/tensor_shard.h"

namespace trainyard::checkpoint {

/// Of `local`, which is contiguous, on the CPU and has the box's shape.
std::uint64_t hash_box(const at::Tensor& local, const Box& box, const std::vector<std::int64_t>& global_shape);
/// Of bytes: FNV-1a over 8-byte words, then mixed; for headers and manifests.
std::uint64_t hash_bytes(std::string_view bytes);

/// 16 hexadecimal digits, as hashes are written in manifests.
std::string to_hex(std::uint64_t hash);
/// Throws std::invalid_argument when `text` is anything else.
std::uint64_t hash_from_hex(std::string_view text);

}  // namespace trainyard::checkpoint
