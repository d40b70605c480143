#pragma once
// Lines from a file descriptor: the agent's words to its rank.

#include <optional>
#include <string>

namespace trainyard::trainer {

/// Not thread safe, but may move to another thread.
class LineReader {
 public:
  /// Does not close the descriptor.
  explicit LineReader(int descriptor) : descriptor_(descriptor) {}
  /// The next line, without its end; waits for it. Nothing at the end of the input, or when reading fails; a last line without an end
  /// is not given, since its writer died over it.
  std::optional<std::string> next();

 private:
  int descriptor_;
  std::string buffer_;
};

}  // namespace trainyard::trainer
