#include "tests/support/api_server.h"
#include "tests/paths.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace trainyard::testing {
namespace {

constexpr const char* kScript = "tests/cluster/apiserver.sh";

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("make a pipe failed");
    read = ends[0];
    write = ends[1];
  }
};

std::string first_line(int fd) {
  std::string line;
  char c = 0;
  while (::read(fd, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

}  // namespace

ApiServer::ApiServer(const std::vector<std::string>& flags) {
  const std::string script = std::string(test::kSourceDir) + "/" + kScript;
  std::vector<std::string> words = {script, "--"};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  const Pipe input, output;
  script_ = ::fork();
  if (script_ == 0) {
    ::dup2(input.read, STDIN_FILENO);
    ::dup2(output.write, STDOUT_FILENO);
    ::execv(script.c_str(), arguments.data());
    ::_exit(127);
  }
  ::close(input.read);
  ::close(output.write);
  input_ = input.write;
  const std::string line = first_line(output.read);
  ::close(output.read);
  constexpr std::string_view kPrefix = "KUBECONFIG=";
  if (!line.starts_with(kPrefix)) {
    ::close(input_);
    ::waitpid(script_, nullptr, 0);
    throw std::runtime_error("start " + script + ": it did not become ready; its messages are above");
  }
  kubeconfig_ = line.substr(kPrefix.size());
}

ApiServer::~ApiServer() {
  thaw();
  ::close(input_);
  ::waitpid(script_, nullptr, 0);
}

pid_t ApiServer::pid_of(const std::string& name) const {
  const auto file = kubeconfig_.parent_path() / (name + ".pid");
  pid_t pid = 0;
  std::ifstream(file) >> pid;
  if (pid <= 1) throw std::runtime_error("read " + file.string() + ": there is no process in it");
  return pid;
}

void ApiServer::freeze() const { ::kill(pid_of("apiserver"), SIGSTOP); }
void ApiServer::thaw() const { ::kill(pid_of("apiserver"), SIGCONT); }

}  // namespace trainyard::testing
