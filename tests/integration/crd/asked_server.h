#pragma once
// A real API server and two ways to ask it as its users do: kubectl, and HTTP by curl.

#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/wait.h>

#include "tests/crds/yaml.h"
#include "tests/paths.h"
#include "tests/support/api_server.h"

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
  FILE* pipe = popen((std::string("cd '") + test::kSourceDir + "' && { " + command + "\n} 2>&1 < /dev/null").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("start a shell: no process");
  Finished out;
  char text[4096];
  for (std::size_t size; (size = fread(text, 1, sizeof text, pipe)) > 0;) out.output.append(text, size);
  const int status = pclose(pipe);
  out.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

/// Started by the constructor, which throws std::runtime_error where that fails.
class AskedServer {
 public:
  AskedServer() : folder_(server_.kubeconfig().parent_path().string()) {
    address_ = json_from(YAML::LoadFile(server_.kubeconfig())).at("clusters").at(0).at("cluster").at("server");
  }

  Finished kubectl(const std::string& arguments) const {
    return shell("KUBECONFIG=" + server_.kubeconfig().string() + " .tools/kubernetes/bin/kubectl " + arguments);
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
  testing::ApiServer server_;
  std::string folder_;  // the server's: its keys, and our requests
  std::string address_;
};

}  // namespace trainyard::crd_test
