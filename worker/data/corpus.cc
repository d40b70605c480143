#include "worker/data/corpus.h"

#include <algorithm>
#include <system_error>

namespace trainyard::data {

namespace fs = std::filesystem;
using contract::SourceFormat;
using contract::UserError;

namespace {

// Of one source; 64 sources for training and as many for validation stay well below the usual limit of 1,024 a process. Samples come in
// a random order: of a folder of many files, no small number that is kept open would be hit often.
constexpr std::size_t kFilesKeptOpen = 4;
// Of one source of tokens: 128 sources stay at half of the 65,530 mappings that a process has by default. Those after them are opened for
// each read: nothing is lost but some microseconds a sample.
constexpr std::size_t kFilesMapped = 256;

/// How the next file of a source is held that has `files_held` already. Token files are few and large, a text may be a folder of many
/// small ones.
Access access_of(SourceFormat format, std::size_t files_held) {
  if (format == SourceFormat::kText) return files_held < kFilesKeptOpen ? Access::kOpen : Access::kReopened;
  return files_held < kFilesMapped ? Access::kMapped : Access::kReopened;
}

std::int64_t token_bytes_of(SourceFormat format) {
  switch (format) {
    case SourceFormat::kText: return 1;
    case SourceFormat::kUInt16: return 2;
    case SourceFormat::kUInt32: return 4;
  }
  throw std::invalid_argument("a source's format is none of the known ones");
}

/// The files of a source in reading order. Names that begin with a dot are not the user's: a ConfigMap or Secret volume keeps its
/// versions in them.
std::vector<fs::path> files_of(const std::string& field, const fs::path& path) {
  if (!fs::exists(path)) {
    throw UserError("CorpusMissing",
                    field + ".path: " + path.string() +
                        " does not exist in this pod: mount a volume that holds it into the template's container, or correct "
                        "the path");
  }
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_regular_file() && entry.path().filename().native().front() != '.') files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// What the failure of a call on a source's files means for the training: the user has to mend what no other start or node would.
[[noreturn]] void fail(const std::string& field, const std::system_error& error) {
  const std::string problem = field + ".path: " + error.what();
  for (const auto refusal : {std::errc::permission_denied, std::errc::operation_not_permitted}) {
    if (error.code() == refusal) {
      throw UserError("CorpusUnreadable", problem + ": make it readable for the user that the pod runs as");
    }
  }
  for (const auto refusal : {std::errc::too_many_symbolic_link_levels, std::errc::filename_too_long}) {
    if (error.code() == refusal) throw UserError("CorpusUnreadable", problem + ": correct the path");
  }
  throw CorpusUnavailable(problem);
}

std::int64_t token_at(const unsigned char* bytes, std::int64_t token_bytes) {
  std::uint32_t token = 0;
  for (std::int64_t i = 0; i < token_bytes; ++i) token |= static_cast<std::uint32_t>(bytes[i]) << (8 * i);
  return token;
}

}  // namespace

Corpus::Corpus(std::string field, const contract::Source& source, std::int64_t vocabulary_size)
    : field_(std::move(field)), token_bytes_(token_bytes_of(source.format)), vocabulary_size_(vocabulary_size) {
  std::string problems;
  try {
    for (const auto& path : files_of(field_, source.path)) {
      SourceFile file(path, access_of(source.format, files_.size()));
      const std::int64_t bytes = file.num_bytes();
      if (bytes == 0) continue;
      if (bytes % token_bytes_ != 0) {
        problems += (problems.empty() ? "" : "\n") + field_ + ".path: " + path.string() + " has " + std::to_string(bytes) +
                    " bytes, which do not divide into tokens of " + std::to_string(token_bytes_) + " bytes (format " +
                    std::string(contract::name_of(source.format)) + "): correct the format, or write the file anew";
        continue;
      }
      files_.push_back({std::move(file), num_tokens_, bytes / token_bytes_});
      num_tokens_ += bytes / token_bytes_;
    }
  } catch (const std::system_error& error) {  // filesystem_error is one
    fail(field_, error);
  }
  if (!problems.empty()) throw UserError("CorpusInvalid", problems);
  if (files_.empty()) {
    throw UserError("CorpusEmpty", field_ + ".path: there is nothing to read in " + source.path +
                                       ": put the corpus there, as files that are not hidden, or correct the path");
  }
}

void Corpus::read(std::int64_t first, std::span<std::int64_t> out) const {
  if (first < 0 || first + static_cast<std::int64_t>(out.size()) > num_tokens_) {
    throw std::invalid_argument(field_ + ": read behind the end of the corpus");
  }
  auto file = std::prev(std::upper_bound(files_.begin(), files_.end(), first,
                                         [](std::int64_t token, const File& f) { return token < f.first_token; }));
  while (!out.empty()) {
    const std::int64_t within = first - file->first_token;
    const auto count = std::min(out.size(), static_cast<std::size_t>(file->num_tokens - within));
    read_file(file->file, within, out.first(count));
    out = out.subspan(count);
    first += static_cast<std::int64_t>(count);
    ++file;
  }
}

void Corpus::read_file(const SourceFile& file, std::int64_t first, std::span<std::int64_t> out) const {
  std::vector<unsigned char> bytes(out.size() * static_cast<std::size_t>(token_bytes_));
  try {
    if (!file.read(first * token_bytes_, bytes)) {
      throw UserError("CorpusChanged", field_ + ".path: " + file.path().string() + " has become shorter than the " +
                                           std::to_string(file.num_bytes()) +
                                           " bytes that it had at the start: files must not change while a job runs");
    }
  } catch (const std::system_error& error) {
    fail(field_, error);
  }
  const unsigned char* at = bytes.data();
  for (std::size_t i = 0; i < out.size(); ++i, at += token_bytes_) {
    out[i] = token_at(at, token_bytes_);
    if (out[i] >= vocabulary_size_) {
      throw UserError("TokenOutOfRange", field_ + ".path: " + file.path().string() + " has token " + std::to_string(out[i]) +
                                             " at byte " + std::to_string((first + static_cast<std::int64_t>(i)) * token_bytes_) +
                                             ", but the model's vocabularySize is " + std::to_string(vocabulary_size_) +
                                             ": raise it, or correct the format or the file");
    }
  }
}

}  // namespace trainyard::data
