#pragma once
// The safetensors format, which Hugging Face's tools read: 8 bytes of little-endian header length, a JSON header, the tensors' bytes.
// Source: github.com/huggingface/safetensors, README "Format".

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>

#include "worker/checkpoint/storage.h"

namespace trainyard::checkpoint {

/// The bytes are not what they should be. what() names the file.
class CorruptFile : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The format's names: F32, BF16, I64 …
std::string_view dtype_name(at::ScalarType type);
/// Throws CorruptFile when there is no such type.
at::ScalarType dtype_from(std::string_view name);

struct StoredTensor {
  at::ScalarType type = at::kFloat;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0;  // in the data, which follows the header
  std::int64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;
};

inline constexpr std::int64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation

/// Reads the JSON header of a file with `data_bytes` bytes behind it. Strict: known types, shapes that match their bytes, and tensors
/// that lie one behind the other with neither holes nor overlaps, to the last byte. Throws CorruptFile.
SafetensorsHeader parse_header(std::string_view json, std::int64_t data_bytes);
/// The header as written: JSON, padded with spaces to a multiple of 8 bytes.
std::string format_header(const SafetensorsHeader& header);

/// What a tensor is called and looks like, before its numbers are there.
struct TensorLayout {
  std::string name;
  at::ScalarType type = at::kFloat;
  std::vector<std::int64_t> shape;
};
struct WrittenFile {
  std::int64_t bytes = 0;
  std::uint64_t header_hash = 0;  // of the length and the header
};
/// Writes a file whose numbers come bit by bit. Errors are StorageErrors, where nothing else is said. Not thread safe.
class SafetensorsWriter {
 public:
  /// Makes the file and writes its header. Throws std::invalid_argument for a name that is reserved or there twice, and a type that the format lacks.
  SafetensorsWriter(Storage& storage, const std::filesystem::path& path, const std::vector<TensorLayout>& tensors,
                    const std::map<std::string, std::string>& metadata);
  /// The next bytes of the tensors' numbers: one tensor after the other, each in row-major order.
  void append(const void* bytes, std::size_t count);
  /// Syncs it. Throws std::logic_error where it has not as many bytes as its header says.
  WrittenFile finish();

 private:
  std::unique_ptr<FileWriter> file_;
  WrittenFile written_;
  std::int64_t missing_ = 0;
};

/// An open file. Not thread safe.
class SafetensorsReader {
 public:
  /// Throws StorageError, CorruptFile.
  SafetensorsReader(Storage& storage, const std::filesystem::path& path);
  const SafetensorsHeader& header() const { return header_; }
  std::int64_t file_bytes() const { return file_->size(); }
  std::uint64_t header_hash() const { return header_hash_; }
  /// Rows [first, first + count) of the tensor's outermost dim; of a scalar: 0, 1. Throws CorruptFile when there is no such tensor.
  at::Tensor read_rows(const std::string& name, std::int64_t first, std::int64_t count) const;

 private:
  std::filesystem::path path_;
  std::unique_ptr<FileReader> file_;
  std::int64_t data_offset_ = 0;
  std::uint64_t header_hash_ = 0;
  SafetensorsHeader header_;
};

}  // namespace trainyard::checkpoint
