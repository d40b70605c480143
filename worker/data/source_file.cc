#include "worker/data/source_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
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

SourceFile::Mapping::~Mapping() {
  if (begin_ != nullptr) ::munmap(begin_, num_bytes_);
}

SourceFile::Mapping::Mapping(Mapping&& other) noexcept
    : begin_(std::exchange(other.begin_, nullptr)), num_bytes_(other.num_bytes_) {}

bool SourceFile::Mapping::copy(std::int64_t offset, std::span<unsigned char> out) const {
  unsigned char* const from = begin_ + offset;
  // Samples come in a random order, so nothing is read ahead but the sample at hand, and that at once rather than page by page.
  static const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t into_page = static_cast<std::size_t>(offset) % page_bytes;
  ::madvise(from - into_page, into_page + out.size(), MADV_WILLNEED);  // advice: the copy says what is wrong
  // The kernel copies, so a page that is not there is an error here and not a signal. process_vm_readv(2) would say what this says, but
  // containerd's seccomp profile refuses it. Without that descriptor nothing is copied.
  static const int own_memory = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  const auto copied = ::pread(own_memory, out.data(), out.size(), reinterpret_cast<off_t>(from));
  return copied >= 0 && static_cast<std::size_t>(copied) == out.size();
}

SourceFile::SourceFile(std::filesystem::path path, Access access) : path_(std::move(path)) {
  Descriptor file(path_);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail("stat", path_);
  num_bytes_ = status.st_size;
  if (access == Access::kMapped && num_bytes_ > 0) {
    const auto size = static_cast<std::size_t>(num_bytes_);
    void* const begin = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
    if (begin != MAP_FAILED) {
      mapping_.emplace(begin, size);
      ::madvise(begin, size, MADV_RANDOM);
    }
  }
  if (access == Access::kOpen) open_.emplace(std::move(file));
}

bool SourceFile::read(std::int64_t offset, std::span<unsigned char> out) const {
  if (mapping_ && offset >= 0 && offset + static_cast<std::int64_t>(out.size()) <= num_bytes_ && mapping_->copy(offset, out)) {
    // A mapping has zeros behind the end of a file that was made shorter, up to the end of its last page.
    struct stat status {};
    if (::stat(path_.c_str(), &status) != 0) fail("stat", path_);
    return status.st_size >= num_bytes_;
  }
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
