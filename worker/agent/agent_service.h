#pragma once
// The agent's HTTP: GET /v1/state (a long poll), PUT /v1/assignment, GET /metrics, GET /healthz. The first two are signed both ways
// (crds/contract/signature.h).

#include <memory>
#include <string>

#include "worker/agent/assignee.h"
#include "worker/agent/http_server.h"

namespace trainyard::agent {

/// 401 without a signature that verifies, 400 for what makes no sense, 409 for a refused assignment: {"message": "…"}; 200 from
/// /v1/assignment carries the state. Lives on the io_context's one thread.
class AgentService {
 public:
  /// `key` is the job key, 64 hexadecimal digits.
  AgentService(boost::asio::io_context& io, Assignee& agent, std::string key);
  ~AgentService();
  AgentService(const AgentService&) = delete;
  AgentService& operator=(const AgentService&) = delete;

  void handle(const HttpRequest& request, HttpServer::Respond respond);
  /// Answers every long poll that waits for another version than the state's. To be called whenever the agent published.
  void published();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// The value of `name` in a target's query; empty where there is none. Values are not percent-decoded: ours are numbers.
std::string query_value(const std::string& target, const std::string& name);

}  // namespace trainyard::agent
