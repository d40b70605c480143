#include "worker/checkpoint/storage.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace trainyard::checkpoint {

namespace fs = std::filesystem;

StorageError::StorageError(std::string_view operation, const fs::path& path, int error_number)
    : std::system_error(error_number, std::generic_category(), std::string(operation) + " " + path.string()) {}

namespace {

class PosixFile {
 public:
  PosixFile(std::string_view operation, fs::path path, int flags) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail(operation);
  }
  ~PosixFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  int descriptor() const { return descriptor_; }
  [[noreturn]] void fail(std::string_view operation, int error = errno) const { throw StorageError(operation, path_, error); }

 private:
  fs::path path_;
  int descriptor_ = -1;
};

class PosixWriter final : public FileWriter {
 public:
  explicit PosixWriter(const fs::path& path) : file_("create", path, O_WRONLY | O_CREAT | O_TRUNC) {}

  void append(const void* bytes, std::size_t count) override {
    const auto* at = static_cast<const char*>(bytes);
    while (count > 0) {
      const auto written = ::write(file_.descriptor(), at, count);
      if (written < 0) {
        if (errno == EINTR) continue;
        file_.fail("write");
      }
      at += written;
      count -= static_cast<std::size_t>(written);
    }
  }
  void sync() override {
    if (::fsync(file_.descriptor()) != 0) file_.fail("fsync");
  }

 private:
  PosixFile file_;
};

class PosixReader final : public FileReader {
 public:
  explicit PosixReader(const fs::path& path) : file_("open", path, O_RDONLY) {
    struct stat status {};
    if (::fstat(file_.descriptor(), &status) != 0) file_.fail("stat");
    size_ = status.st_size;
  }

  std::int64_t size() const override { return size_; }
  void read(std::int64_t offset, void* bytes, std::size_t count) const override {
    auto* at = static_cast<char*>(bytes);
    while (count > 0) {
      const auto got = ::pread(file_.descriptor(), at, count, offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) file_.fail("read");
      if (got == 0) file_.fail("read behind the end of", ENODATA);
      at += got;
      offset += got;
      count -= static_cast<std::size_t>(got);
    }
  }

 private:
  PosixFile file_;
  std::int64_t size_ = 0;
};

void expect(const std::error_code& error, std::string_view operation, const fs::path& path) {
  if (error) throw StorageError(operation, path, error.value());
}

}  // namespace

void PosixStorage::make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  expect(error, "make directory", path);
}

std::unique_ptr<FileWriter> PosixStorage::create(const fs::path& path) { return std::make_unique<PosixWriter>(path); }

std::unique_ptr<FileReader> PosixStorage::open(const fs::path& path) { return std::make_unique<PosixReader>(path); }

std::vector<std::string> PosixStorage::list(const fs::path& directory) {
  std::error_code error;
  std::vector<std::string> names;
  fs::directory_iterator entry(directory, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  expect(error, "list", directory);
  while (entry != fs::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
    expect(error, "list", directory);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool PosixStorage::exists(const fs::path& path) {
  std::error_code error;
  const bool there = fs::exists(path, error);
  expect(error, "look for", path);
  return there;
}

void PosixStorage::rename(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  expect(error, "rename " + from.string() + " to", to);
}

void PosixStorage::sync_directory(const fs::path& path) {
  const PosixFile directory("open", path, O_RDONLY | O_DIRECTORY);
  if (::fsync(directory.descriptor()) != 0) directory.fail("fsync");
}

void PosixStorage::remove_all(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  expect(error, "remove", path);
}

std::string read_text(Storage& storage, const fs::path& path, std::int64_t most_bytes) {
  const auto file = storage.open(path);
  if (file->size() > most_bytes) throw StorageError("read", path, EFBIG);
  std::string text(static_cast<std::size_t>(file->size()), '\0');
  file->read(0, text.data(), text.size());
  return text;
}

void write_text(Storage& storage, const fs::path& path, std::string_view text) {
  const auto file = storage.create(path);
  file->append(text.data(), text.size());
  file->sync();
}

}  // namespace trainyard::checkpoint
