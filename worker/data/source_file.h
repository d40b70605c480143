#pragma once
// A file's bytes, read where they are wanted.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

namespace trainyard::data {

/// How a file is held between reads. Pages stay in the kernel's cache in each case, and are shared by the ranks of a node.
enum class Access {
  kReopened,  ///< not at all: it is opened for each read; a folder may have more files than a process may have open
  kOpen,      ///< by a descriptor
  kMapped,    ///< in memory, without a descriptor
};

/// A read never ends the process: the bytes of a mapping are copied by the kernel (by /proc/self/mem, proc(5)), to whom a page that cannot
/// be had, of a volume that goes away or of a file that was made shorter, is an answer where it is a SIGBUS to a load, which names no file
/// (docs/design/0006). Where the mapping does not answer, the file is opened and read, whose error says why. So it is too, for good, where
/// a file cannot be mapped: a file system may not offer it. Immutable; any thread may read, but no process that was forked without an exec.
class SourceFile {
 public:
  /// Throws std::system_error when the file cannot be opened for reading.
  SourceFile(std::filesystem::path path, Access access);

  const std::filesystem::path& path() const { return path_; }
  std::int64_t num_bytes() const { return num_bytes_; }
  /// Fills `out` from `offset` on. False: the file has ended before (a mapped one: what has its path is shorter now), so it is no longer
  /// the one that was opened. Throws std::system_error.
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

  /// Unmaps at its end.
  class Mapping {
   public:
    Mapping(void* begin, std::size_t num_bytes) : begin_(static_cast<unsigned char*>(begin)), num_bytes_(num_bytes) {}
    ~Mapping();
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&&) = delete;
    /// Copies from `offset` on; false when any of it is not there.
    bool copy(std::int64_t offset, std::span<unsigned char> out) const;

   private:
    unsigned char* begin_;
    std::size_t num_bytes_;
  };

  std::filesystem::path path_;
  std::optional<Descriptor> open_;
  std::optional<Mapping> mapping_;
  std::int64_t num_bytes_ = 0;
};

}  // namespace trainyard::data
