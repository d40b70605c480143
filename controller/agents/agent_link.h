#pragma once
// What goes on between the controller and one agent: the long poll that never ends, and the assignment that has to be there.

#include <chrono>
#include <memory>
#include <random>

#include "controller/agents/agent_api.h"

namespace boost::asio {
class io_context;
}

namespace trainyard::agents {

struct PollingTimes {
  std::chrono::seconds wait{30};                  // what a poll asks for
  std::chrono::milliseconds reply_slack{10'000};  // and so much later it has failed
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::seconds silence{10};        // a poll has also failed where the agent's machine acknowledges nothing for so long
  std::chrono::milliseconds between{200};  // from one poll to the next, however much an agent has to tell
  std::chrono::milliseconds backoff_least{200};  // after the first error; doubled with each further one, with jitter
  std::chrono::milliseconds backoff_most{5'000};
};

/// Lives on the io_context's one thread; the sink is called there. Destroyed, it is silent at once.
class AgentLink {
 public:
  AgentLink(boost::asio::io_context& io, Target target, const PollingTimes& times, std::mt19937& random,
            const ObservationSink& sink);
  ~AgentLink();
  AgentLink(const AgentLink&) = delete;
  AgentLink& operator=(const AgentLink&) = delete;

  /// False where it is another pod, address or key: that needs a link of its own.
  bool retarget(const Target& target);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace trainyard::agents
