#pragma once
// manifest.json: what a checkpoint is and where each part of each tensor lies (docs/formats.md). It is written last: a directory
// without a valid one is no checkpoint.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/fields.h"
#include "worker/checkpoint/safetensors.h"

namespace trainyard::checkpoint {

inline constexpr std::string_view kFormat = "trainyard-checkpoint";
/// Of a checkpoint that has moments in codes (coded.h), which programs that know version 1 alone take for corrupt; all others have version 1,
/// so that those read them.
inline constexpr std::int32_t kFormatVersion = 2;
inline constexpr std::int32_t kPlainVersion = 1;
inline constexpr std::string_view kManifestName = "manifest.json";

/// A part of a tensor: all of the tensor of the same name in `file`.
struct StoredBox {
  std::string file;
  std::vector<std::int64_t> offset;
  std::vector<std::int64_t> shape;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("file", self.file);
    field("offset", self.offset);
    field("shape", self.shape);
  }
  bool operator==(const StoredBox&) const = default;
};

struct TensorEntry {
  std::string dtype;
  std::vector<std::int64_t> shape;  // of the unsharded tensor
  std::string hash;                 // hash_box() of the whole
  std::vector<StoredBox> boxes;     // together the whole, each element once

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("dtype", self.dtype);
    field("shape", self.shape);
    field("hash", self.hash);
    field("boxes", self.boxes);
  }
  bool operator==(const TensorEntry&) const = default;
};

struct FileEntry {
  std::int64_t bytes = 0;
  std::string headerHash;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("bytes", self.bytes);
    field("headerHash", self.headerHash);
  }
  bool operator==(const FileEntry&) const = default;
};

/// What one rank wrote: the content of `rank-00003.json`, from which rank 0 makes the manifest.
struct Fragment {
  std::map<std::string, TensorEntry> tensors;  // hash: of this rank's part
  std::map<std::string, FileEntry> files;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("tensors", self.tensors);
    field("files", self.files);
  }
  bool operator==(const Fragment&) const = default;
};

struct Manifest {
  std::string format = std::string(kFormat);
  std::int32_t version = kPlainVersion;  // set_version()
  std::int64_t step = 0;
  std::int64_t generation = 0;  // of the gang that wrote it
  std::string job;              // namespace/name
  std::string jobUid;
  contract::Json layout = contract::Json::object();    // the degrees it was written under; for people, loading does not need it
  contract::Json identity = contract::Json::object();  // what a job must have in common with it to resume; see identity_of()
  contract::Json state = contract::Json::object();     // the trainer's own: cursor, seed, counters
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, FileEntry> files;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("format", self.format);
    field("version", self.version);
    field("step", self.step);
    field("generation", self.generation);
    field("job", self.job);
    field("jobUid", self.jobUid);
    field("layout", self.layout);
    field("identity", self.identity);
    field("state", self.state);
    field("tensors", self.tensors);
    field("files", self.files);
  }
  bool operator==(const Manifest&) const = default;
};

/// Adds what one rank wrote: boxes are joined, hashes added up. Throws std::invalid_argument when ranks disagree on a tensor.
void add_fragment(Manifest& manifest, const Fragment& fragment);
/// The lowest version whose programs read its tensors.
void set_version(Manifest& manifest);
/// Every problem of a manifest: boxes outside of their tensor or of another rank, elements missing or twice, files that are not listed
/// or that would lie elsewhere. Empty: none.
std::vector<std::string> problems_of(const Manifest& manifest);

/// As in the file: one line of JSON with the field `hash` over all the rest.
std::string to_text(const Manifest& manifest);
/// Accepts exactly the bytes that to_text() writes, of a manifest without problems. Throws CorruptFile, naming `origin`,
/// and UserError where the format is newer than this program.
Manifest parse_manifest(std::string_view text, const std::string& origin);

std::string to_text(const Fragment& fragment);
Fragment parse_fragment(std::string_view text, const std::string& origin);

}  // namespace trainyard::checkpoint
