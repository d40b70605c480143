#include "worker/agent/line_splitter.h"

#include <algorithm>
#include <utility>

namespace trainyard::agent {

void LineSplitter::add(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::size_t room = limit_ - rest_.size();
    const std::size_t taken = std::min({end, bytes.size(), room});
    rest_.append(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
    const bool line_ends = taken == end;
    if (!line_ends && rest_.size() < limit_) return;
    if (line_ends) bytes.remove_prefix(1);
    if (!rest_.empty() && rest_.back() == '\r') rest_.pop_back();
    sink_(std::exchange(rest_, {}));
  }
}

void LineSplitter::finish() {
  if (!rest_.empty()) sink_(std::exchange(rest_, {}));
}

}  // namespace trainyard::agent
