#pragma once
// The file operations that checkpoints are made of. Behind an interface so that tests can stop the machine between any two of them,
// or fill its disk.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace trainyard::checkpoint {

/// A file operation failed; what() reads like `write /checkpoints/step-00000100/x: No space left on device`.
class StorageError : public std::system_error {
 public:
  StorageError(std::string_view operation, const std::filesystem::path& path, int error_number);
};

/// The storage fails for the moment (an I/O error, a stale handle, a server that does not answer), or the machine does while it reads
/// or writes (too little memory), and nothing is known of what the storage holds: neither the user's fault nor a corrupt file. Trying
/// again later may help.
class StorageUnavailable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file that is being written, from its beginning. Closed, unsynced, by the destructor.
class FileWriter {
 public:
  virtual ~FileWriter() = default;
  virtual void append(const void* bytes, std::size_t count) = 0;
  /// On the disk when it returns.
  virtual void sync() = 0;
};

class FileReader {
 public:
  virtual ~FileReader() = default;
  virtual std::int64_t size() const = 0;
  /// Exactly `count` bytes; fewer in the file is an error (ENODATA).
  virtual void read(std::int64_t offset, void* bytes, std::size_t count) const = 0;
};

/// Any thread may call. Every failure is a StorageError.
class Storage {
 public:
  virtual ~Storage() = default;
  /// Makes the directory and those above it; one that exists is no error. Durable once each one's parent is synced.
  virtual void make_directories(const std::filesystem::path& path) = 0;
  /// Makes the file, or empties it.
  virtual std::unique_ptr<FileWriter> create(const std::filesystem::path& path) = 0;
  virtual std::unique_ptr<FileReader> open(const std::filesystem::path& path) = 0;
  /// Names in a directory, sorted. A directory that does not exist is empty.
  virtual std::vector<std::string> list(const std::filesystem::path& directory) = 0;
  virtual bool exists(const std::filesystem::path& path) = 0;
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// Makes renames and new files in a directory durable.
  virtual void sync_directory(const std::filesystem::path& path) = 0;
  /// With all that is in it; what does not exist is no error.
  virtual void remove_all(const std::filesystem::path& path) = 0;
};

/// The machine's file system.
class PosixStorage final : public Storage {
 public:
  void make_directories(const std::filesystem::path& path) override;
  std::unique_ptr<FileWriter> create(const std::filesystem::path& path) override;
  std::unique_ptr<FileReader> open(const std::filesystem::path& path) override;
  std::vector<std::string> list(const std::filesystem::path& directory) override;
  bool exists(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void sync_directory(const std::filesystem::path& path) override;
  void remove_all(const std::filesystem::path& path) override;
};

/// A whole file as text. Throws StorageError (EFBIG) above `most_bytes`.
std::string read_text(Storage& storage, const std::filesystem::path& path, std::int64_t most_bytes);
/// Writes and syncs a whole file.
void write_text(Storage& storage, const std::filesystem::path& path, std::string_view text);

}  // namespace trainyard::checkpoint
