#include "worker/data/source_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace trainyard::data {

namespace {

[[noreturn]] void fail(const char* operation, const std::filesystem::path& path) {
  throw std::system_error(errno, std::generic_category(), std::string(operation) + " " + path.string());
}

}  // namespace

SourceFile::Descriptor::Descriptor(const std::filesystem::path& path) : value_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (value_ < 0) fail("open", path);
}

SourceFile::Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

SourceFile::Descriptor::Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}

SourceFile::SourceFile(std::filesystem::path path, bool stays_open) : path_(std::move(path)) {
  Descriptor file(path_);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail("stat", path_);
  num_bytes_ = status.st_size;
  if (stays_open) open_.emplace(std::move(file));
}

bool SourceFile::read(std::int64_t offset, std::span<unsigned char> out) const {
  std::optional<Descriptor> opened;
  if (!open_) opened.emplace(path_);
  const int file = open_ ? open_->get() : opened->get();
  while (!out.empty()) {
    const auto got = ::pread(file, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read", path_);
    if (got == 0) return false;
    out = out.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
  return true;
}

}  // namespace trainyard::data
