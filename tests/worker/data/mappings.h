#pragma once
// What this process has mapped.

#include <filesystem>
#include <fstream>
#include <string>

namespace trainyard {

/// How many of its mappings are of the file at `path`, or of files below it. Linux, /proc/self/maps.
inline int mappings_of(const std::filesystem::path& path) {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find(path.string()) != std::string::npos;
  return count;
}

}  // namespace trainyard
