#pragma once
// A file's bytes without reading them.

#include <filesystem>
#include <span>

namespace trainyard::data {

/// Mapped read-only. The file must not shrink while it is mapped: reading behind its new end would be a SIGBUS.
class MappedFile {
 public:
  /// Throws std::system_error when the file cannot be opened or mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const unsigned char> bytes() const { return bytes_; }

 private:
  std::span<const unsigned char> bytes_;
};

}  // namespace trainyard::data
