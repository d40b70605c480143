#include "worker/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "worker/checkpoint/tensor_hash.h"

namespace trainyard::checkpoint {

namespace {

using Json = nlohmann::json;

constexpr auto kTypes = std::to_array<std::pair<at::ScalarType, std::string_view>>({
    {at::kDouble, "F64"},
    {at::kFloat, "F32"},
    {at::kHalf, "F16"},
    {at::kBFloat16, "BF16"},
    {at::kLong, "I64"},
    {at::kInt, "I32"},
    {at::kShort, "I16"},
    {at::kChar, "I8"},
    {at::kByte, "U8"},
    {at::kBool, "BOOL"},
});

/// Bytes of a tensor; refuses sizes whose product does not fit.
std::int64_t bytes_of(const std::string& name, const StoredTensor& tensor) {
  auto bytes = static_cast<std::int64_t>(c10::elementSize(tensor.type));
  for (const auto size : tensor.shape) {
    if (size != 0 && bytes > std::numeric_limits<std::int64_t>::max() / size)
      throw CorruptFile(name + " is too large to be true");
    bytes *= size;
  }
  return bytes;
}

std::int64_t size_from(const std::string& name, const Json& number) {
  if (!number.is_number_unsigned() || number.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    throw CorruptFile(name + " has a shape or an offset that is no whole number");
  }
  return number.get<std::int64_t>();
}

StoredTensor tensor_from(const std::string& name, const Json& json) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets")) {
    throw CorruptFile(name + " must have dtype, shape and data_offsets, and nothing else");
  }
  const auto& offsets = json["data_offsets"];
  if (!json["dtype"].is_string() || !json["shape"].is_array() || !offsets.is_array() || offsets.size() != 2) {
    throw CorruptFile(name + " has a dtype, shape or data_offsets of the wrong form");
  }
  StoredTensor out;
  out.type = dtype_from(json["dtype"].get<std::string>());
  for (const auto& size : json["shape"]) out.shape.push_back(size_from(name, size));
  out.begin = size_from(name, offsets[0]);
  out.end = size_from(name, offsets[1]);
  if (out.begin > out.end || out.end - out.begin != bytes_of(name, out)) {
    throw CorruptFile(name + " has offsets that do not match its shape");
  }
  return out;
}

void expect_no_holes(const SafetensorsHeader& header, std::int64_t data_bytes) {
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  for (const auto& [name, tensor] : header.tensors) ranges.emplace_back(tensor.begin, tensor.end);
  std::sort(ranges.begin(), ranges.end());
  std::int64_t end = 0;
  for (const auto& [begin, range_end] : ranges) {
    if (begin != end) throw CorruptFile("the tensors overlap or leave a hole at byte " + std::to_string(end) + " of the data");
    end = range_end;
  }
  if (end != data_bytes) {
    throw CorruptFile("the tensors have " + std::to_string(end) + " bytes, but the file has " + std::to_string(data_bytes) +
                      " behind its header");
  }
}

std::string length_of(std::size_t header_bytes) {
  std::string out(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>((header_bytes >> (8 * i)) & 255);
  return out;
}

std::int64_t length_from(const std::array<unsigned char, 8>& bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) length |= std::uint64_t{bytes[i]} << (8 * i);
  if (length > std::uint64_t{kMaxHeaderBytes})
    throw CorruptFile("a header of " + std::to_string(length) + " bytes is too long to be true");
  return static_cast<std::int64_t>(length);
}

}  // namespace

std::string_view dtype_name(at::ScalarType type) {
  for (const auto& [known, name] : kTypes) {
    if (known == type) return name;
  }
  throw std::invalid_argument(std::string("tensors of type ") + c10::toString(type) + " cannot be written to a checkpoint");
}

at::ScalarType dtype_from(std::string_view name) {
  for (const auto& [type, known] : kTypes) {
    if (known == name) return type;
  }
  throw CorruptFile("there is no type `" + std::string(name.substr(0, 32)) + "`");
}

SafetensorsHeader parse_header(std::string_view text, std::int64_t data_bytes) {
  // Depth is bounded before the parser recurses into it: a header nests three deep at most.
  const auto json = Json::parse(
      text,
      [](int depth, Json::parse_event_t, Json&) { return depth > 8 ? throw CorruptFile("the header nests too deep") : true; },
      false);
  if (!json.is_object()) throw CorruptFile("the header is no JSON object");
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name != "__metadata__") {
      header.tensors.emplace(name, tensor_from(name, value));
      continue;
    }
    if (!value.is_object()) throw CorruptFile("__metadata__ is no JSON object");
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) throw CorruptFile("__metadata__." + key + " is no string");
      header.metadata.emplace(key, item.get<std::string>());
    }
  }
  expect_no_holes(header, data_bytes);
  return header;
}

std::string format_header(const SafetensorsHeader& header) {
  Json json = Json::object();
  if (!header.metadata.empty()) json["__metadata__"] = header.metadata;
  for (const auto& [name, tensor] : header.tensors) {
    json[name] = {{"dtype", dtype_name(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {tensor.begin, tensor.end}}};
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

SafetensorsWriter::SafetensorsWriter(Storage& storage, const std::filesystem::path& path,
                                     const std::vector<TensorLayout>& tensors,
                                     const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header{.tensors = {}, .metadata = metadata};
  for (const auto& [name, type, shape] : tensors) {
    dtype_name(type);
    StoredTensor stored{.type = type, .shape = shape, .begin = missing_, .end = 0};
    stored.end = missing_ += bytes_of(name, stored);
    if (name == "__metadata__" || !header.tensors.emplace(name, std::move(stored)).second) {
      throw std::invalid_argument("the tensor name " + name + " is reserved, or there twice");
    }
  }
  std::string head = format_header(header);
  head.insert(0, length_of(head.size()));
  file_ = storage.create(path);
  file_->append(head.data(), head.size());
  written_ = {.bytes = static_cast<std::int64_t>(head.size()), .header_hash = hash_bytes(head)};
}

void SafetensorsWriter::append(const void* bytes, std::size_t count) {
  file_->append(bytes, count);
  written_.bytes += static_cast<std::int64_t>(count);
  missing_ -= static_cast<std::int64_t>(count);
}

WrittenFile SafetensorsWriter::finish() {
  if (missing_ != 0) throw std::logic_error(std::to_string(missing_) + " bytes of the tensors' numbers are missing");
  file_->sync();
  return written_;
}

SafetensorsReader::SafetensorsReader(Storage& storage, const std::filesystem::path& path)
    : path_(path), file_(storage.open(path)) {
  try {
    if (file_->size() < 8) throw CorruptFile("the file ends before its header");
    std::array<unsigned char, 8> length{};
    file_->read(0, length.data(), length.size());
    const std::int64_t header_bytes = length_from(length);
    data_offset_ = 8 + header_bytes;
    if (file_->size() < data_offset_) throw CorruptFile("the file ends within its header");
    std::string head(static_cast<std::size_t>(data_offset_), '\0');
    file_->read(0, head.data(), head.size());
    header_hash_ = hash_bytes(head);
    header_ = parse_header(std::string_view(head).substr(8), file_->size() - data_offset_);
  } catch (const CorruptFile& error) {
    throw CorruptFile(path.string() + " is corrupt: " + error.what());
  }
}

at::Tensor SafetensorsReader::read_rows(const std::string& name, std::int64_t first, std::int64_t count) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) throw CorruptFile(path_.string() + " is corrupt: it lacks " + name);
  const auto& stored = found->second;
  auto shape = stored.shape;
  const std::int64_t rows = shape.empty() ? 1 : shape[0];
  if (first < 0 || count < 0 || first + count > rows) throw std::invalid_argument("rows outside of " + name);
  if (!shape.empty()) shape[0] = count;
  const std::int64_t row_bytes = rows == 0 ? 0 : (stored.end - stored.begin) / rows;
  at::Tensor out = at::empty(shape, stored.type);
  file_->read(data_offset_ + stored.begin + first * row_bytes, out.data_ptr(), static_cast<std::size_t>(count * row_bytes));
  return out;
}

}  // namespace trainyard::checkpoint
