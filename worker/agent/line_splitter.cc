#include "worker/agent/line_splitter.h"

#include <algorithm>
#include <utility>

namespace trainyard::agent {

void LineSplitter::add(std::string_view bytes) {
  while (!bytes.empty()) {
    // A full line is cut only when it is known to go on: the bytes may end between it and its line end.
    if (rest_.size() == limit_ && bytes.front() != '\n') sink_(std::exchange(rest_, {}));
    const std::size_t end = bytes.find('\n');
    const std::size_t taken = std::min({end, bytes.size(), limit_ - rest_.size()});
    rest_.append(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
    if (taken != end) continue;
    bytes.remove_prefix(1);
    if (!rest_.empty() && rest_.back() == '\r') rest_.pop_back();
    sink_(std::exchange(rest_, {}));
  }
}

void LineSplitter::finish() {
  if (!rest_.empty()) sink_(std::exchange(rest_, {}));
}

}  // namespace trainyard::agent
