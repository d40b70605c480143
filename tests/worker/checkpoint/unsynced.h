#pragma once
// What a disk loses when the machine stops: all that no sync has made durable, to the letter of POSIX. Syncing a file saves its bytes, but
// its name is an entry of the folder that it lies in, and only syncing that folder saves names, new or changed. Removals are never lost.

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace trainyard::checkpoint {

class Unsynced {
 public:
  using Path = std::filesystem::path;

  /// A file or folder has got a name.
  void named(const Path& path) { names_.insert(path); }
  void written(const Path& file) { contents_.insert(file); }
  void synced(const Path& file) { contents_.erase(file); }
  void renamed(const Path& from, const Path& to) {
    names_ = moved(names_, from, to);
    contents_ = moved(contents_, from, to);
    renames_.push_back({from, to, false});
  }
  void removed(const Path& path) {
    const auto gone = [&](const Path& other) { return other == path || is_below(other, path); };
    std::erase_if(names_, gone);
    std::erase_if(contents_, gone);
    for (auto& rename : renames_) rename.removed = rename.removed || rename.to == path;
  }
  void synced_directory(const Path& directory) {
    std::erase_if(names_, [&](const Path& path) { return path.parent_path() == directory; });
    std::erase_if(renames_, [&](const Rename& rename) { return rename.to.parent_path() == directory; });
  }

  /// Takes from the disk what is not durable.
  void lose() {
    namespace fs = std::filesystem;
    for (const auto& file : contents_) {
      if (fs::exists(file)) fs::resize_file(file, fs::file_size(file) / 2);
    }
    for (const auto& path : names_) fs::remove_all(path);
    for (auto rename = renames_.rbegin(); rename != renames_.rend(); ++rename) {
      if (fs::exists(rename->to)) fs::rename(rename->to, rename->from);
      if (rename->removed)
        fs::create_directories(rename->from);  // what was in it is gone, but under the old name it is still there
    }
    *this = {};
  }

 private:
  struct Rename {
    Path from, to;
    bool removed = false;
  };

  static bool is_below(const Path& path, const Path& directory) {
    const auto [end, at] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
    return end == directory.end() && at != path.end();
  }
  static std::set<Path> moved(const std::set<Path>& paths, const Path& from, const Path& to) {
    std::set<Path> out;
    for (const auto& path : paths) {
      out.insert(path == from ? to : is_below(path, from) ? to / path.lexically_relative(from) : path);
    }
    return out;
  }

  std::set<Path> names_;
  std::set<Path> contents_;
  std::vector<Rename> renames_;
};

}  // namespace trainyard::checkpoint
