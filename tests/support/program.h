#pragma once
// A program under test: its lines, its signals, its end.

#include <sys/types.h>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/inbox.h"

namespace trainyard::testing {

/// Runs until it ends or this is destroyed, which kills it; it dies with the test program, too. Its standard error is read here.
class Program {
 public:
  /// `environment` is added to this program's own. Throws std::runtime_error.
  Program(const std::string& path, const std::vector<std::string>& arguments,
          const std::map<std::string, std::string>& environment = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// The next line of standard error that contains `text`; nothing when the program ended, or it did not come in time.
  /// `patience` is for each line.
  std::optional<std::string> line_with(const std::string& text, std::chrono::milliseconds patience = kPatience);
  void signal(int number) const;
  pid_t pid() const { return pid_; }
  /// Waits for the end: the exit code, or 128 + the signal that killed it.
  int wait();

 private:
  void read();

  pid_t pid_ = -1;
  int stderr_ = -1;
  Inbox<std::optional<std::string>> lines_;  // nothing: the end
  std::jthread reader_;
};

}  // namespace trainyard::testing
