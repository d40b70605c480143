#pragma once
// AgentApi over HTTP: one thread, one long poll an agent.

#include <map>
#include <memory>
#include <string>

#include "controller/agents/agent_api.h"
#include "controller/agents/agent_link.h"

namespace trainyard::agents {

/// Makes one thread, on which the sink is called: with every answer, an unchanged one after `times.wait` included, and with every error.
/// The sink hands on and returns; it must not call stop(). An agent costs an open socket and some kilobytes: 10,000 are fine as far as
/// the process may open as many descriptors.
class PollingAgents : public AgentApi {
 public:
  explicit PollingAgents(ObservationSink sink, PollingTimes times = {});
  ~PollingAgents() override;
  PollingAgents(const PollingAgents&) = delete;
  PollingAgents& operator=(const PollingAgents&) = delete;

  void change_targets(std::map<std::string, std::optional<Target>> by_pod_uid) override;
  /// Closes everything at once; when it returns, the sink is not called any more. Later calls do nothing.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trainyard::agents
