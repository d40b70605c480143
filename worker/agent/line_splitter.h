#pragma once
// Bytes into lines.

#include <functional>
#include <string>
#include <string_view>

namespace trainyard::agent {

/// Hands out whole lines, without their line ends. A line longer than `limit` bytes comes in pieces, so that a program that never ends
/// its line cannot fill the memory.
class LineSplitter {
 public:
  using Sink = std::function<void(std::string_view)>;
  LineSplitter(std::size_t limit, Sink sink) : limit_(limit), sink_(std::move(sink)) {}

  void add(std::string_view bytes);
  /// The input has ended: what stands there without a line end is a line too.
  void finish();

 private:
  std::size_t limit_;
  Sink sink_;
  std::string rest_;
};

}  // namespace trainyard::agent
