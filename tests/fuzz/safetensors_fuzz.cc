// A safetensors header from anywhere: refused with CorruptFile, or every tensor lies within the data.

#include "tests/fuzz/target.h"
#include "worker/checkpoint/safetensors.h"

using namespace trainyard::checkpoint;
using trainyard::fuzz::expect;

std::vector<std::string> trainyard::fuzz::seeds() {
  return {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"v":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]}})",
          R"({"__metadata__":{"format":"pt"},"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}})",
          R"({"e":{"dtype":"U8","shape":[0,3],"data_offsets":[0,0]}})", "{}"};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(bytes), size);
  for (const std::int64_t data_bytes : {0, 8, 16}) {
    SafetensorsHeader header;
    try {
      header = parse_header(text, data_bytes);
    } catch (const CorruptFile&) {
      continue;
    }
    std::int64_t total = 0;
    for (const auto& [name, tensor] : header.tensors) {
      expect(0 <= tensor.begin && tensor.begin <= tensor.end && tensor.end <= data_bytes, "a tensor lies outside of the data");
      total += tensor.end - tensor.begin;
      std::int64_t elements = 1;
      for (const auto dim_size : tensor.shape) {
        expect(dim_size >= 0, "a shape is negative");
        elements *= dim_size;
      }
      expect(elements * static_cast<std::int64_t>(c10::elementSize(tensor.type)) == tensor.end - tensor.begin,
             "a shape does not match its bytes");
    }
    expect(total == data_bytes, "bytes belong to no tensor");
    expect(parse_header(format_header(header), data_bytes).tensors.size() == header.tensors.size(),
           "it is not read as it was written");
  }
  return 0;
}
