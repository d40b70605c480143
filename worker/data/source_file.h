#pragma once
// A file's bytes, read where they are wanted.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

namespace trainyard::data {

/// Open for reading, or closed and opened again for each read: a folder may have more files than a process may have open. The file is
/// read and not mapped: an I/O error of a mapped page ends the process by SIGBUS, which names no file, and mappings are few, too. Pages
/// stay in the kernel's cache all the same, and are shared by the ranks of a node. Immutable; any thread may read.
class SourceFile {
 public:
  /// Throws std::system_error when the file cannot be opened for reading.
  SourceFile(std::filesystem::path path, bool stays_open);

  const std::filesystem::path& path() const { return path_; }
  std::int64_t num_bytes() const { return num_bytes_; }
  /// Fills `out` from `offset` on. False: the file has ended before, so it is no longer the one that was opened. Throws
  /// std::system_error.
  bool read(std::int64_t offset, std::span<unsigned char> out) const;

 private:
  /// Closes at its end.
  class Descriptor {
   public:
    explicit Descriptor(const std::filesystem::path& path);
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&&) = delete;
    int get() const { return value_; }

   private:
    int value_;
  };

  std::filesystem::path path_;
  std::optional<Descriptor> open_;
  std::int64_t num_bytes_ = 0;
};

}  // namespace trainyard::data
