#pragma once
// One connection to one agent: signed requests, one at a time, over a socket that is kept open.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace boost::asio {
class io_context;
}

namespace trainyard::agents {

/// Who answers at the other end, and the key that proves it.
struct Peer {
  std::string address;  // pod IP:port, [IPv6]:port
  std::string pod_uid;
  std::string key;
};

struct Exchange {
  std::string method;
  std::string target;
  std::string body;
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds reply_timeout{10'000};  // from the request until the whole reply is here
  std::chrono::seconds silence{10};                 // as in PollingTimes
};

/// What came of an exchange: either an error, or a reply whose signature verified (a 401 alone carries none).
struct Outcome {
  std::string error;  // "connect to 10.244.1.7:8471: timed out"
  unsigned status = 0;
  std::string body;
};

/// Lives on the io_context's one thread. A request that finds the kept connection closed is repeated once on a new one.
class AgentConnection {
 public:
  using Done = std::function<void(Outcome)>;

  AgentConnection(boost::asio::io_context& io, Peer peer);
  /// Closes; what was under way is not called back.
  ~AgentConnection();
  AgentConnection(const AgentConnection&) = delete;
  AgentConnection& operator=(const AgentConnection&) = delete;

  /// Not while another exchange is under way. `done` is never called from within this call.
  void exchange(Exchange exchange, Done done);
  void close();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace trainyard::agents
