#pragma once
// The least that a program can do to have pods: connections that are open already, ready bodies, nothing decided and nothing read.
// What the controller takes longer than that is its own.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controller/kube/credentials.h"

namespace trainyard::bench {

using Clock = std::chrono::steady_clock;

/// One kept-alive connection to the API server. One thread. Throws std::runtime_error, and boost::system::system_error.
class Wire {
 public:
  explicit Wire(const kube::Credentials& credentials);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  struct Answer {
    unsigned status = 0;
    std::string body;
  };
  Answer send(const std::string& method, const std::string& target, const std::string& body = {});
  /// Reads the answer's lines as they come, until `line` returns false or the stream ends.
  void read_lines(const std::string& target, const std::function<bool(const std::string& line)>& line);
  /// Ends read_lines(). Any thread.
  void shut();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// POSTs all bodies over so many connections, which are opened before; the time from the first byte sent until the last answer.
/// Throws where one is refused.
std::chrono::duration<double> post_all(const kube::Credentials& credentials, int connections, const std::string& target,
                                       const std::vector<std::string>& bodies);

}  // namespace trainyard::bench
