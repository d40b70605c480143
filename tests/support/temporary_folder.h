#pragma once
// A folder that is there as long as the test.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace trainyard::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "trainyard-test.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("make a folder like " + name + " failed");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Replaces the file by rename, so that no reader sees half of it.
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    auto file = path_ / name, next = path_ / (name + ".next");
    std::ofstream(next) << text;
    std::filesystem::rename(next, file);
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace trainyard::testing
