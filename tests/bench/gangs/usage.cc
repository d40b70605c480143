#include "tests/bench/gangs/usage.h"

#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

#include <unistd.h>

namespace trainyard::bench {

std::string load() {
  std::ifstream file("/proc/loadavg");
  std::string one;
  file >> one;
  return one;
}

std::string memory_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  double now = 0, most = 0, files = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    double kilobytes = 0;
    words >> name >> kilobytes;
    if (name == "VmRSS:") now = kilobytes / 1024;
    if (name == "VmHWM:") most = kilobytes / 1024;
    if (name == "RssFile:") files = kilobytes / 1024;
  }
  char text[96];
  std::snprintf(text, sizeof text, "now %.1f MB, of which %.1f MB programs and libraries, at most %.1f MB", now, files, most);
  return text;
}

double cpu_seconds(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string word;
  double ticks = 0;
  for (int field = 1; file >> word; ++field) {
    if (field == 14 || field == 15) ticks += std::stod(word);  // utime, stime
  }
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Usage::Usage(std::map<std::string, pid_t> programs) : programs_(std::move(programs)) {
  for (const auto& [name, pid] : programs_) before_[name] = cpu_seconds(pid);
}

std::string Usage::text() const {
  std::string out;
  double all = 0;
  char text[32];
  for (const auto& [name, pid] : programs_) {
    const double used = cpu_seconds(pid) - before_.at(name);
    all += used;
    std::snprintf(text, sizeof text, " %.2f, ", used);
    out += name + text;
  }
  std::snprintf(text, sizeof text, "all %.2f", all);
  return out + text;
}

}  // namespace trainyard::bench
