#include "tests/support/program.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace trainyard::testing {

Program::Program(const std::string& path, const std::vector<std::string>& arguments,
                 const std::map<std::string, std::string>& environment) {
  std::vector<char*> words = {const_cast<char*>(path.c_str())};
  for (const auto& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("make a pipe for " + path + " failed");
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(ends[1], STDERR_FILENO);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execv(path.c_str(), words.data());
    ::dprintf(STDERR_FILENO, "cannot start %s\n", path.c_str());
    ::_exit(127);
  }
  ::close(ends[1]);
  stderr_ = ends[0];
  reader_ = std::jthread([this] { read(); });
}

Program::~Program() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  reader_.join();
  ::close(stderr_);
}

void Program::read() {
  std::string line;
  char c = 0;
  while (::read(stderr_, &c, 1) == 1) {
    if (c != '\n') {
      line += c;
      continue;
    }
    lines_.put(line);
    line.clear();
  }
  lines_.put(std::nullopt);
}

std::optional<std::string> Program::line_with(const std::string& text, std::chrono::milliseconds patience) {
  std::string passed;
  while (auto line = lines_.take(patience)) {
    if (!*line) break;
    if ((*line)->find(text) != std::string::npos) return *line;
    passed += **line + "\n";
  }
  std::fprintf(stderr, "no line with `%s`; instead:\n%s", text.c_str(), passed.c_str());
  return std::nullopt;
}

void Program::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

int Program::wait() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace trainyard::testing
