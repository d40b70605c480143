// A checkpoint's manifest from anywhere, given the hash that fits it so that the input gets past that check: refused with
// CorruptFile, or UserError where a newer program wrote it; or without problems and read again as it was written.

#include "crds/contract/user_error.h"
#include "tests/fuzz/target.h"
#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/tensor_hash.h"
#include "worker/checkpoint/tensor_shard.h"

using namespace trainyard::checkpoint;
using trainyard::contract::Json;
using trainyard::fuzz::expect;

std::vector<std::string> trainyard::fuzz::seeds() {
  Manifest manifest{.step = 100, .generation = 3, .job = "default/tiny", .jobUid = "uid", .state = {{"samples", 1600}}};
  manifest.files["rank-00000.safetensors"] = {.bytes = 200, .headerHash = to_hex(1)};
  manifest.files["rank-00001.safetensors"] = {.bytes = 200, .headerHash = to_hex(2)};
  manifest.tensors["w"] = {.dtype = "F32",
                           .shape = {4, 2},
                           .hash = to_hex(3),
                           .boxes = {{"rank-00000.safetensors", {0, 0}, {2, 2}}, {"rank-00001.safetensors", {2, 0}, {2, 2}}}};
  manifest.tensors["s"] = {.dtype = "I64", .shape = {}, .hash = to_hex(4), .boxes = {{"rank-00000.safetensors", {}, {}}}};
  const std::string plain = to_text(manifest);
  manifest.tensors["s"].dtype = "U8";
  set_version(manifest);
  return {plain, to_text(manifest), to_text(Manifest{})};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string raw(reinterpret_cast<const char*>(bytes), size);
  for (const bool with_hash : {false, true}) {
    std::string text = raw;
    if (with_hash) {
      auto json = Json::parse(raw, nullptr, false);
      if (!json.is_object()) return 0;
      json.erase("hash");
      const auto hash = to_hex(hash_bytes(json.dump(-1, ' ', false, Json::error_handler_t::replace)));
      json["hash"] = hash;
      text = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }
    Manifest manifest;
    try {
      manifest = parse_manifest(text, "input");
    } catch (const CorruptFile&) {
      continue;
    } catch (const trainyard::contract::UserError&) {  // of a newer format version
      continue;
    }
    expect(problems_of(manifest).empty(), "a manifest with problems was accepted");
    expect(parse_manifest(to_text(manifest), "again") == manifest, "it is not read as it was written");
    for (const auto& [name, tensor] : manifest.tensors) {
      for (const auto& box : tensor.boxes) {
        expect(
            num_elements(
                intersection({box.offset, box.shape}, {std::vector<std::int64_t>(tensor.shape.size(), 0), tensor.shape}).shape) ==
                num_elements(box.shape),
            "a part lies outside of its tensor");
      }
    }
  }
  return 0;
}
