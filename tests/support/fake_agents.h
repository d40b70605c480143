#pragma once
// One controller's client of all agents, in virtual time, over FakeWorkers.

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "controller/agents/agent_api.h"
#include "tests/support/fake_workers.h"

namespace trainyard::test {

class FakeAgents : public agents::AgentApi {
 public:
  FakeAgents(VirtualTime& time, FakeWorkers& workers, agents::ObservationSink sink);
  ~FakeAgents() override { stop(); }
  void change_targets(std::map<std::string, std::optional<agents::Target>> by_pod_uid) override;
  void stop() { alive_ = nullptr; }

 private:
  struct Link {
    agents::Target target;
    std::optional<contract::Assignment> accepted;
    std::optional<std::int64_t> seen;  // the version of the last state that was told
    std::string refused;               // and why it had not taken its assignment
    bool posted = false;
  };
  void contact_soon(const std::string& pod_uid, milliseconds low, milliseconds high);
  void contact(const std::string& pod_uid);

  VirtualTime& time_;
  FakeWorkers& workers_;
  agents::ObservationSink sink_;
  std::map<std::string, Link> links_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trainyard::test
