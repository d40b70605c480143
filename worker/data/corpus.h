#pragma once
// One entry of data.train or data.validation as a stream of tokens: a file, or a directory whose files are read as one, in the order
// of their names. Opening one reads no token of it, so a corpus of a terabyte costs as much as a small one.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "crds/contract/job.h"
#include "crds/contract/user_error.h"
#include "worker/data/source_file.h"

namespace trainyard::data {

/// The volume that holds a source fails for the moment (an I/O error, a stale handle), or the machine does (no descriptor is left):
/// another start may help, or another node.
class CorpusUnavailable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Immutable; any thread may read.
class Corpus {
 public:
  /// `field` names the source in messages: `data.train[0]`. Formats: Text gives each byte as a token (0 to 255); UInt16 and UInt32 are
  /// little-endian token files without a header (docs/formats.md); the first 256 are mapped. In a directory, names that begin with a dot
  /// and empty files are left out. Throws UserError, with all problems at once, when there is nothing at the path, nothing in it, this
  /// user may not read it, or a token file ends within a token; CorpusUnavailable.
  Corpus(std::string field, const contract::Source& source, std::int64_t vocabulary_size);

  std::int64_t num_tokens() const { return num_tokens_; }
  /// The tokens from `first` on. Throws UserError, with file and offset, at a token that is not below the vocabulary's size: only what
  /// is read is checked, since a check of everything would read a terabyte before the first step. UserError too when a file has become
  /// shorter; CorpusUnavailable.
  void read(std::int64_t first, std::span<std::int64_t> out) const;

 private:
  struct File {
    SourceFile file;
    std::int64_t first_token = 0;
    std::int64_t num_tokens = 0;
  };
  void read_file(const SourceFile& file, std::int64_t first, std::span<std::int64_t> out) const;

  std::string field_;
  std::int64_t token_bytes_ = 1;
  std::int64_t vocabulary_size_ = 0;
  std::int64_t num_tokens_ = 0;
  std::vector<File> files_;
};

}  // namespace trainyard::data
