// A sanity check of scale: 200 agents, each told its assignment and followed to its end by one thread.

#include <chrono>
#include <set>

#include <gtest/gtest.h>

#include "controller/agents/polling_agents.h"
#include "tests/support/inbox.h"
#include "tests/worker/agent/agent_in_thread.h"

namespace trainyard::agents {
namespace {

TEST(ManyAgents, AreAllFollowedByOneThread) {
  constexpr int kAgents = 200;
  std::vector<std::unique_ptr<testing::AgentInThread>> fleet;
  std::map<std::string, std::optional<Target>> targets;
  for (int i = 0; i < kAgents; ++i) {
    const std::string pod_uid = "pod-" + std::to_string(i);
    fleet.push_back(std::make_unique<testing::AgentInThread>(pod_uid));
    auto assignment = testing::scripted(1, "", {});  // no ranks: the agents' own work is not what is looked at
    assignment.worker = i;
    targets[pod_uid] =
        Target{.pod_uid = pod_uid, .address = fleet.back()->address(), .key = testing::kJobKey, .assignment = assignment};
  }
  testing::Inbox<Observation> observed;
  PollingAgents agents([&observed](Observation seen) { observed.put(std::move(seen)); });

  const auto started = std::chrono::steady_clock::now();
  agents.change_targets(targets);
  std::set<std::string> told;
  while (told.size() < kAgents) {
    const auto seen = observed.take();
    ASSERT_TRUE(seen) << told.size() << " of " << kAgents << " agents have their assignment";
    EXPECT_EQ(seen->error, "");
    if (seen->state && seen->state->generation == 1) told.insert(seen->pod_uid);
  }
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started).count();
  RecordProperty("milliseconds", static_cast<int>(milliseconds));
  std::cout << kAgents << " agents have their assignment after " << milliseconds << " ms\n";
}

}  // namespace
}  // namespace trainyard::agents
