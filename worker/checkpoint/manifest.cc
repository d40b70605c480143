#include "worker/checkpoint/manifest.h"

#include <algorithm>
#include <limits>
#include <set>
#include <stdexcept>

#include "crds/contract/parse_json.h"
#include "crds/contract/user_error.h"
#include "worker/checkpoint/tensor_hash.h"
#include "worker/checkpoint/tensor_shard.h"

namespace trainyard::checkpoint {

namespace {

using contract::Json;

/// Adds what is wrong with one tensor's boxes; `name` leads each line.
void check_tensor(const std::string& name, const TensorEntry& tensor, const std::map<std::string, FileEntry>& files,
                  std::vector<std::string>& problems) {
  const auto expect = [&](bool holds, const std::string& problem) {
    if (!holds) problems.push_back(name + " " + problem);
  };
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  std::int64_t total = 1;
  for (const auto size : tensor.shape) {
    if (size < 0 || (size > 0 && total > most / size)) return expect(false, "has an impossible shape");
    total *= size;
  }
  try {
    dtype_from(tensor.dtype);
    hash_from_hex(tensor.hash);
  } catch (const std::exception& error) {
    expect(false, std::string("is malformed: ") + error.what());
  }
  std::int64_t elements = 0;
  std::set<std::string> seen;
  for (const auto& box : tensor.boxes) {
    expect(files.contains(box.file), "lies in `" + box.file + "`, which is not listed");
    expect(seen.insert(box.file).second, "is twice in `" + box.file + "`");
    bool inside = box.offset.size() == tensor.shape.size() && box.shape.size() == tensor.shape.size();
    for (std::size_t dim = 0; inside && dim < box.shape.size(); ++dim) {
      inside = box.offset[dim] >= 0 && box.shape[dim] > 0 && box.shape[dim] <= tensor.shape[dim] &&
               box.offset[dim] <= tensor.shape[dim] - box.shape[dim];
    }
    expect(inside, "has a part in `" + box.file + "` that does not lie within the tensor");
    if (!inside) continue;
    const std::int64_t part = num_elements(box.shape);
    elements = elements > most - part ? most : elements + part;
  }
  expect(elements == total, "has " + std::to_string(elements) + " of " + std::to_string(total) + " elements");
}

bool is_plain_name(const std::string& file) {
  return !file.empty() && file.front() != '.' && file.find('/') == std::string::npos && file.find('\0') == std::string::npos;
}

Json parse(std::string_view text, const std::string& origin) {
  auto json = contract::parse_json(text);
  if (!json.is_object()) throw CorruptFile(origin + " is corrupt: it is no JSON object");
  return json;
}

template <class T>
T decode_whole(const Json& json, const std::string& origin) {
  auto decoded = contract::decode<T>(json, "", contract::UnknownFields::kRefuse);
  if (!decoded.problems.empty()) throw CorruptFile(origin + " is corrupt: " + contract::to_text(decoded.problems));
  return std::move(decoded.value);
}

Json sealed(Json json) {
  json.erase("hash");
  const auto hash = to_hex(hash_bytes(json.dump()));
  json["hash"] = hash;
  return json;
}

}  // namespace

void add_fragment(Manifest& manifest, const Fragment& fragment) {
  for (const auto& [name, part] : fragment.tensors) {
    const auto [at, is_new] = manifest.tensors.emplace(name, part);
    if (is_new) continue;
    auto& whole = at->second;
    if (whole.dtype != part.dtype || whole.shape != part.shape) {
      throw std::invalid_argument("ranks disagree on the type or shape of " + name);
    }
    whole.hash = to_hex(hash_from_hex(whole.hash) + hash_from_hex(part.hash));
    whole.boxes.insert(whole.boxes.end(), part.boxes.begin(), part.boxes.end());
  }
  for (const auto& [name, file] : fragment.files) {
    if (!manifest.files.emplace(name, file).second) throw std::invalid_argument("two ranks wrote the file " + name);
  }
}

void set_version(Manifest& manifest) {
  const bool has_codes = std::any_of(manifest.tensors.begin(), manifest.tensors.end(),
                                     [](const auto& tensor) { return tensor.second.dtype == "U8"; });
  manifest.version = has_codes ? kFormatVersion : kPlainVersion;
}

std::vector<std::string> problems_of(const Manifest& manifest) {
  std::vector<std::string> problems;
  if (manifest.format != kFormat)
    problems.push_back("the format is `" + manifest.format + "`, not `" + std::string(kFormat) + "`");
  if (manifest.version < kPlainVersion || manifest.version > kFormatVersion) {
    problems.push_back("the format's version is " + std::to_string(manifest.version) + ", and this program reads versions " +
                       std::to_string(kPlainVersion) + " and " + std::to_string(kFormatVersion));
  }
  if (manifest.step < 0) problems.emplace_back("the step is negative");
  for (const auto& [name, file] : manifest.files) {
    if (!is_plain_name(name)) problems.push_back("the file `" + name + "` would lie outside of the checkpoint");
    if (file.bytes < 0) problems.push_back("the file `" + name + "` has a negative size");
    try {
      hash_from_hex(file.headerHash);
    } catch (const std::invalid_argument& error) {
      problems.push_back("the file `" + name + "` is malformed: " + error.what());
    }
  }
  for (const auto& [name, tensor] : manifest.tensors) check_tensor(name, tensor, manifest.files, problems);
  return problems;
}

std::string to_text(const Manifest& manifest) { return sealed(contract::encode(manifest)).dump() + "\n"; }

Manifest parse_manifest(std::string_view text, const std::string& origin) {
  auto json = parse(text, origin);
  // One spelling for each content: then no byte can change unnoticed, not even one between two fields.
  if (text != sealed(json).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n") {
    throw CorruptFile(origin + " is corrupt: its hash does not match its content");
  }
  json.erase("hash");
  if (const auto version = json.value("version", Json()); version.is_number_integer() && version > kFormatVersion) {
    throw contract::UserError("CheckpointsUnreadable", origin + " was written by a newer program: its format has version " +
                                                           version.dump() + ", and this one reads versions up to " +
                                                           std::to_string(kFormatVersion) + ": use an image as new as that one");
  }
  auto manifest = decode_whole<Manifest>(json, origin);
  const auto problems = problems_of(manifest);
  if (!problems.empty()) {
    std::string all;
    for (const auto& problem : problems) all += (all.empty() ? "" : "; ") + problem;
    throw CorruptFile(origin + " is corrupt: " + all);
  }
  return manifest;
}

std::string to_text(const Fragment& fragment) { return contract::encode(fragment).dump() + "\n"; }

Fragment parse_fragment(std::string_view text, const std::string& origin) {
  return decode_whole<Fragment>(parse(text, origin), origin);
}

}  // namespace trainyard::checkpoint
