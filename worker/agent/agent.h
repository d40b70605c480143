#pragma once
// The agent: AgentCore with real processes, clocks and files. agent_service.h gives it its HTTP; local_run.h drives it without.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "worker/agent/agent_core.h"
#include "worker/agent/assignee.h"
#include "worker/agent/log.h"

namespace boost::asio {
class io_context;
}

namespace trainyard::agent {

struct AgentOptions {
  Worker worker;
  Limits limits;
  std::string rank_program;     // trainyard-rank
  std::string termination_log;  // gets the state when the ranks have ended and when the agent ends; empty: none
  Log log;                      // empty: none
  bool reap_orphans = false;    // this process is process 1, or a subreaper: others' zombies are its to reap too
};

/// Lives on the io_context's one thread, which must be the one that makes it; all callbacks come there.
class Agent : public Assignee {
 public:
  struct Callbacks {
    std::function<void(std::int32_t rank, std::string_view line)> log_line;  // of a rank's standard output and error
    std::function<void()> published;                                         // state() has a new version
    std::function<void(int code)> ended;  // no rank is left; the process should end with this code
  };

  Agent(boost::asio::io_context& io, AgentOptions options, Callbacks callbacks);
  /// Kills and reaps every rank.
  ~Agent() override;
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  Answer assign(const contract::Assignment& assignment) override;
  Answer assign_unknown(const contract::Assignment& assignment, const std::vector<contract::Problem>& problems) override;
  void asked() override;
  /// What SIGTERM means.
  void terminate();
  const contract::State& state() const override;
  std::int64_t ranks_started() const override;
  std::int64_t ranks_failed() const override;
  const Measured& measured() const override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace trainyard::agent
