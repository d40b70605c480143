#pragma once
// Whether processes are there, from /proc.

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "tests/support/inbox.h"

namespace trainyard::testing {

/// A zombie whose parent is gone counts as gone: whether somebody reaps it is not the agent's matter.
inline bool is_alive(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(file, text)) return false;
  return text.substr(text.rfind(')') + 2, 1) != "Z";
}

inline bool is_gone_soon(int pid) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (is_alive(pid) && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  return !is_alive(pid);
}

}  // namespace trainyard::testing
