#pragma once
// trainyard-worker as a user or a kubelet starts it: a child process with its output in files.

#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/paths.h"
#include "tests/support/inbox.h"
#include "tests/support/temporary_folder.h"

namespace trainyard::testing {

class WorkerProgram {
 public:
  /// `environment` entries as NAME=value are added to this process's own.
  WorkerProgram(std::vector<std::string> arguments, std::vector<std::string> environment) {
    arguments.insert(arguments.begin(), std::string(test::kBinDir) + "/trainyard-worker");
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string out_path = folder_.path() / "out", error_path = folder_.path() / "err";
    pid_ = ::fork();
    if (pid_ == 0) {
      for (auto& entry : environment) ::putenv(entry.data());
      ::dup2(::open(out_path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600), 1);
      ::dup2(::open(error_path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600), 2);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~WorkerProgram() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  WorkerProgram(const WorkerProgram&) = delete;
  WorkerProgram& operator=(const WorkerProgram&) = delete;

  void signal(int number) const { ::kill(pid_, number); }
  /// The exit code, or 128 + the signal that ended it.
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string out() const { return read("out"); }
  std::string errors() const { return read("err"); }
  /// Waits until `text` stands in the output; what follows it on its line, or "(nothing)".
  std::string wait_for(const std::string& text) const {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < until) {
      const std::string all = out() + errors();
      const auto at = all.find(text);
      const auto end = at == std::string::npos ? at : all.find('\n', at);
      if (end != std::string::npos) return all.substr(at + text.size(), end - at - text.size());
      std::this_thread::yield();
    }
    return "(nothing)";
  }

 private:
  std::string read(const char* name) const {
    std::ostringstream text;
    text << std::ifstream(folder_.path() / name).rdbuf();
    return text.str();
  }

  TemporaryFolder folder_;
  pid_t pid_ = -1;
};

}  // namespace trainyard::testing
