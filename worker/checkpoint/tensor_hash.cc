#include "worker/checkpoint/tensor_hash.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace trainyard::checkpoint {

namespace {

/// SplitMix64's finalizer (Steele, Lea and Flood 2014).
std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

/// `count` elements of one row; they follow each other in the unsharded tensor too.
template <class Bits>
std::uint64_t hash_row(const char* bytes, std::int64_t count, std::uint64_t first_index) {
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
    // The place is spread over the word first, so that neither equal values nor swapped ones cancel out.
    sum += mix((first_index + static_cast<std::uint64_t>(i)) * 0x9e3779b97f4a7c15u ^ mix(std::uint64_t{bits} + 1));
  }
  return sum;
}

std::uint64_t hash_row(const char* bytes, std::int64_t count, std::uint64_t first_index, std::size_t element_bytes) {
  switch (element_bytes) {
    case 1: return hash_row<std::uint8_t>(bytes, count, first_index);
    case 2: return hash_row<std::uint16_t>(bytes, count, first_index);
    case 4: return hash_row<std::uint32_t>(bytes, count, first_index);
    case 8: return hash_row<std::uint64_t>(bytes, count, first_index);
  }
  throw std::invalid_argument("elements of " + std::to_string(element_bytes) + " bytes cannot be hashed");
}

}  // namespace

std::uint64_t hash_box(const at::Tensor& local, const Box& box, const std::vector<std::int64_t>& global_shape) {
  const auto dims = box.shape.size();
  if (local.numel() == 0) return 0;
  const auto* bytes = static_cast<const char*>(local.const_data_ptr());
  const auto element_bytes = local.element_size();
  if (dims == 0) return hash_row(bytes, 1, 0, element_bytes);
  const std::int64_t row = box.shape.back();
  std::vector<std::int64_t> at(dims, 0);  // of the row's first element, within the box
  std::uint64_t sum = 0;
  for (std::int64_t done = 0; done < local.numel(); done += row) {
    std::uint64_t index = 0;
    for (std::size_t dim = 0; dim < dims; ++dim) {
      index = index * static_cast<std::uint64_t>(global_shape[dim]) + static_cast<std::uint64_t>(box.offset[dim] + at[dim]);
    }
    sum += hash_row(bytes + done * static_cast<std::int64_t>(element_bytes), row, index, element_bytes);
    for (std::size_t dim = dims - 1; dim-- > 0;) {
      if (++at[dim] < box.shape[dim]) break;
      at[dim] = 0;
    }
  }
  return sum;
}

std::uint64_t hash_bytes(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ mix(bytes.size() + 1);
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min(sizeof(word), bytes.size() - i));
    hash = mix((hash ^ word) * 0x100000001b3u);
  }
  return hash;
}

std::string to_hex(std::uint64_t hash) {
  std::string text(16, '0');
  for (std::size_t i = 0; i < 16; ++i) text[15 - i] = "0123456789abcdef"[(hash >> (4 * i)) & 15];
  return text;
}

std::uint64_t hash_from_hex(std::string_view text) {
  std::uint64_t hash = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + text.size() || to_hex(hash) != text) {
    throw std::invalid_argument("a hash has 16 hexadecimal digits, not `" + std::string(text.substr(0, 32)) + "`");
  }
  return hash;
}

}  // namespace trainyard::checkpoint
