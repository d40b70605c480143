#pragma once
// A real kube-apiserver on loopback for a test, by tests/cluster/apiserver.sh, and ways to ask it: kubectl, and plain HTTP by curl.

#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crds/yaml.h"

namespace trainyard::crd_test {

struct Request {
  std::string method;
  std::string path;  // with the query
  Json body;
  std::string content_type = "application/json";
};
struct Answer {
  int status = 0;
  Json body;
};
struct Finished {
  int exit_code = 0;
  std::string output;  // standard output and error
};

/// Runs a shell command in the project's root.
inline Finished shell(const std::string& command) {
  FILE* pipe = popen(("cd '" TRAINYARD_SOURCE_DIR "' && { " + command + "\n} 2>&1 < /dev/null").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("start a shell: no process");
  Finished out;
  char text[4096];
  for (std::size_t size; (size = fread(text, 1, sizeof text, pipe)) > 0;) out.output.append(text, size);
  const int status = pclose(pipe);
  out.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

/// Starts in the constructor, which throws std::runtime_error where that fails, and ends, leaving nothing behind, in the destructor.
class ApiServer {
 public:
  ApiServer() {
    int input[2], output[2];
    if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) throw std::runtime_error("start the API server: no pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    std::string script = TRAINYARD_SOURCE_DIR "/tests/cluster/apiserver.sh";
    char* arguments[] = {script.data(), nullptr};
    const int error = posix_spawn(&pid_, script.c_str(), &actions, nullptr, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(input[0]);
    close(output[1]);
    input_ = input[1];
    const std::string line = error == 0 ? first_line(output[0]) : "";
    close(output[0]);
    if (!line.starts_with("KUBECONFIG=")) {
      stop();
      throw std::runtime_error("start " + script + ": it did not print its KUBECONFIG");
    }
    kubeconfig_ = line.substr(line.find('=') + 1);
    folder_ = kubeconfig_.substr(0, kubeconfig_.rfind('/'));
    address_ = json_from(YAML::LoadFile(kubeconfig_)).at("clusters").at(0).at("cluster").at("server");
  }
  ~ApiServer() { stop(); }
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  Finished kubectl(const std::string& arguments) const {
    return shell("KUBECONFIG=" + kubeconfig_ + " .tools/kubernetes/bin/kubectl " + arguments);
  }

  /// All requests over one connection, since a handshake costs more than an answer. Throws std::runtime_error where none comes.
  std::vector<Answer> ask(const std::vector<Request>& requests) const {
    std::ofstream config(folder_ + "/requests");
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const std::string number = std::to_string(i), body = folder_ + "/body-" + number;
      if (i > 0) config << "next\n";
      config << "url = \"" << address_ << requests[i].path << "\"\nrequest = " << requests[i].method << "\noutput = \"" << folder_
             << "/answer-" << number
             << "\"\nwrite-out = \"%{http_code}\\n\"\nsilent\nheader = \"Content-Type: " << requests[i].content_type
             << "\"\ncacert = \"" << folder_ << "/pki/ca.crt\"\ncert = \"" << folder_ << "/pki/admin.crt\"\nkey = \"" << folder_
             << "/pki/admin.key\"\n";
      if (requests[i].body.is_null()) continue;
      std::ofstream(body) << requests[i].body.dump();
      config << "data-binary = \"@" << body << "\"\n";
    }
    config.close();
    const Finished curl = shell("curl --config " + folder_ + "/requests");
    std::istringstream codes(curl.output);
    std::vector<Answer> out;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      Answer answer;
      if (!(codes >> answer.status) || answer.status == 0)
        throw std::runtime_error("curl " + requests[i].path + ": " + curl.output);
      std::ifstream file(folder_ + "/answer-" + std::to_string(i));
      answer.body = Json::parse(file, nullptr, false);
      out.push_back(std::move(answer));
    }
    return out;
  }
  Answer ask(const Request& request) const { return ask(std::vector{request}).at(0); }

 private:
  static std::string first_line(int descriptor) {
    std::string line;
    for (char c = 0; read(descriptor, &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  void stop() {
    close(input_);  // that is the script's sign to end
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }

  std::string kubeconfig_;
  std::string folder_;  // the server's: its keys, and our requests
  std::string address_;
  int input_ = -1;
  pid_t pid_ = -1;
};

}  // namespace trainyard::crd_test
