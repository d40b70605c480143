// PollingAgents against real agents, with scripted ranks, and against servers that misbehave.

#include "controller/agents/polling_agents.h"

#include <atomic>
#include <future>

#include <gtest/gtest.h>

#include "crds/contract/signature.h"
#include "tests/support/http_server.h"
#include "tests/support/inbox.h"
#include "tests/worker/agent/agent_in_thread.h"

namespace trainyard::agents {
namespace {

using namespace std::chrono_literals;
using contract::AgentPhase;
using testing::AgentInThread;
using testing::HttpReply;
using testing::HttpSeen;
using testing::HttpServer;
using testing::kJobKey;
using testing::scripted;

/// Short waits, so that the tests of time-outs and back-off are quick; where nothing goes wrong none of them is waited for.
constexpr PollingTimes kTimes{
    .wait = 1s, .reply_slack = 100ms, .connect_timeout = 2s, .between = 5ms, .backoff_least = 5ms, .backoff_most = 20ms};

/// For servers that hold their answer back: given up after 100 ms.
constexpr PollingTimes kImpatient{
    .wait = 0s, .reply_slack = 100ms, .connect_timeout = 2s, .between = 5ms, .backoff_least = 5ms, .backoff_most = 20ms};

class PollingAgentsTest : public ::testing::Test {
 protected:
  static Target target(const std::string& address, std::optional<contract::Assignment> assignment = {}) {
    return {.pod_uid = "pod-uid", .address = address, .key = kJobKey, .assignment = std::move(assignment)};
  }
  void aim(const Target& wanted) { agents.change_targets({{wanted.pod_uid, wanted}}); }
  /// The first observation for which `good` holds.
  Observation wait(const std::function<bool(const Observation&)>& good) {
    while (auto seen = observed.take()) {
      if (good(*seen)) return *seen;
    }
    ADD_FAILURE() << "nothing of the kind was observed in time";
    return {};
  }
  contract::State wait(AgentPhase phase, std::int64_t generation) {
    return wait([=](const Observation& seen) {
             return seen.state && seen.state->phase == phase && seen.state->generation == generation;
           })
        .state.value_or(contract::State{});
  }
  std::string wait_for_error() {
    return wait([](const Observation& seen) { return !seen.error.empty(); }).error;
  }

  testing::Inbox<Observation> observed;
  const ObservationSink sink = [this](Observation seen) { observed.put(std::move(seen)); };
  PollingAgents agents{sink, kTimes};
};

/// Answers as an agent with this key would.
void send_signed(HttpReply& reply, const HttpSeen& seen, const std::string& body, int status = 200,
                 const std::string& key = kJobKey) {
  const contract::SignedMessage message{.method = seen.method,
                                        .target = seen.target,
                                        .pod_uid = "pod-uid",
                                        .nonce = seen.headers.at("trainyard-nonce"),
                                        .status = status,
                                        .body = body};
  reply.send(status, body, {{contract::kSignatureHeader, contract::sign(key, message)}});
}
std::string address(const HttpServer& server) { return "127.0.0.1:" + std::to_string(server.port()); }
std::string state_text(std::int64_t version) {
  return contract::encode(contract::State{.version = version, .podUid = "pod-uid"}).dump();
}
bool polls_on(const HttpSeen& seen) { return seen.target.find("after=0&") == std::string::npos; }

TEST_F(PollingAgentsTest, ObservesAnIdleAgent) {
  AgentInThread agent;
  aim(target(agent.address()));
  EXPECT_EQ(wait(AgentPhase::kIdle, 0).podUid, "pod-uid");
}

TEST_F(PollingAgentsTest, BringsAnAgentToWhatIsWanted) {
  AgentInThread agent;
  aim(target(agent.address(), scripted(1, "steps:5")));
  const auto state = wait(AgentPhase::kSucceeded, 1);
  EXPECT_EQ(state.progress->step, 5);
}

TEST_F(PollingAgentsTest, TellsAnAgentOfEveryChange) {
  AgentInThread agent;
  auto assignment = scripted(1, "steps:1 wait");
  aim(target(agent.address(), assignment));
  wait(AgentPhase::kRunning, 1);
  assignment.checkpointRequest = 1;
  assignment.stopAfter = 1;
  aim(target(agent.address(), assignment));
  EXPECT_EQ(wait(AgentPhase::kStopped, 1).checkpointed->request, 1);
  aim(target(agent.address(), scripted(2, "exit:3")));
  EXPECT_EQ(wait(AgentPhase::kFailed, 2).failure->exitCode, 3);
}

TEST_F(PollingAgentsTest, PutsAnAcceptedAssignmentOnlyOnce) {
  std::atomic<int> puts = 0;
  const std::string accepted = contract::encode(contract::State{.version = 2, .podUid = "pod-uid", .generation = 1}).dump();
  HttpServer server([&](const HttpSeen& seen, HttpReply& reply) {
    if (seen.method == "PUT") ++puts;
    if (seen.method == "GET" && polls_on(seen) && puts > 0) return reply.hold();
    send_signed(reply, seen, accepted);
  });
  PollingAgents impatient(sink, kImpatient);
  const auto aim_again = [&] { impatient.change_targets({{"pod-uid", target(address(server), scripted(1, ""))}}); };
  aim_again();
  wait([&](const Observation&) { return puts == 1; });
  for (int i = 0; i < 3; ++i) aim_again();
  wait(
      [](const Observation& seen) { return seen.error.find("timed out") != std::string::npos; });  // it had time for a second one
  EXPECT_EQ(puts, 1);
}

TEST_F(PollingAgentsTest, TellsNoFieldThatHasItsDefaultSoThatAnOlderWorkerNeedNotKnowIt) {
  std::promise<std::string> told;
  std::atomic<bool> is_told = false;
  HttpServer server([&](const HttpSeen& seen, HttpReply& reply) {
    if (seen.method == "PUT" && !is_told.exchange(true)) told.set_value(seen.body);
    send_signed(reply, seen, contract::encode(contract::State{.version = 2, .podUid = "pod-uid", .generation = 1}).dump());
  });
  auto assignment = scripted(1, "/corpus");
  assignment.spec.training.dropout = 0.25;
  aim(target(address(server), assignment));
  const auto body = contract::Json::parse(told.get_future().get());
  EXPECT_EQ(body.at("spec"), contract::Json::parse(R"({"training": {"dropout": 0.25}, "data": {"train": [{"path": "/corpus"}]},
                                                       "checkpoint": {"path": "/checkpoints"}})"));
  EXPECT_FALSE(body.contains("release"));
}

TEST_F(PollingAgentsTest, TellsAnAgentAnewThatForgot) {
  std::atomic<int> puts = 0;
  HttpServer server([&](const HttpSeen& seen, HttpReply& reply) {
    if (seen.method == "PUT") ++puts;
    // It accepts, and at the next poll knows of nothing.
    send_signed(reply, seen,
                seen.method == "PUT" ? contract::encode(contract::State{.version = 5, .generation = 1}).dump() : state_text(6));
  });
  aim(target(address(server), scripted(1, "")));
  wait([&](const Observation&) { return puts >= 2; });
}

TEST_F(PollingAgentsTest, SaysWhyAnAgentRefusesAndStillTellsItsState) {
  AgentInThread agent;
  agent.assign(scripted(5, "wait"));
  aim(target(agent.address(), scripted(4, "wait")));
  const auto seen = wait([](const Observation& each) { return !each.error.empty(); });
  EXPECT_NE(seen.error.find("PUT /v1/assignment at 127.0.0.1:"), std::string::npos) << seen.error;
  EXPECT_NE(seen.error.find("409 generation 4 is lower than 5"), std::string::npos) << seen.error;
  ASSERT_TRUE(seen.state);
  EXPECT_EQ(seen.state->generation, 5);
  // What is wanted next is not held up by the refusal.
  aim(target(agent.address(), scripted(6, "steps:1")));
  wait(AgentPhase::kSucceeded, 6);
}

TEST_F(PollingAgentsTest, SaysWithEachAnswerThatTheAssignmentIsRefusedUntilItIsNotWanted) {
  AgentInThread agent;
  agent.assign(scripted(5, "wait"));
  aim(target(agent.address(), scripted(4, "wait")));
  wait([](const Observation& seen) { return seen.state && !seen.error.empty(); });
  agent.assign(scripted(6, "exit:3"));
  const auto failed = wait([](const Observation& seen) { return seen.state && seen.state->phase == AgentPhase::kFailed; });
  EXPECT_NE(failed.error.find("409"), std::string::npos) << failed.error;
  aim(target(agent.address()));
  wait([](const Observation& seen) { return seen.state && seen.error.empty(); });
}

TEST_F(PollingAgentsTest, ForgetsARefusalOfWhatIsNotWantedAnyMoreWhenItComes) {
  std::promise<void> not_wanted;
  testing::Inbox<bool> puts;
  HttpServer server([&, is_not_wanted = not_wanted.get_future().share()](const HttpSeen& seen, HttpReply& reply) {
    if (seen.method == "GET") return send_signed(reply, seen, state_text(1));
    puts.put(true);
    is_not_wanted.wait();
    send_signed(reply, seen, R"({"message": "no"})", 409);
  });
  HttpServer another([](const HttpSeen&, HttpReply& reply) { reply.hold(); });
  aim(target(address(server), scripted(4, "wait")));
  ASSERT_TRUE(puts.take());
  agents.change_targets({{"pod-uid", target(address(server))}, {"another", target(address(another))}});
  ASSERT_TRUE(another.seen().take());  // so the targets were taken
  not_wanted.set_value();
  for (int i = 0; i < 20; ++i)
    wait([](const Observation& seen) {
      EXPECT_EQ(seen.error, "");
      return seen.state.has_value();
    });
}

TEST_F(PollingAgentsTest, AmendsAnAssignmentThatAnAgentHas) {
  AgentInThread agent;
  aim(target(agent.address(), scripted(1, "steps:1 wait")));
  const auto job_uid = scripted(1, "").jobUid;
  wait(AgentPhase::kRunning, 1);
  aim(target(agent.address(),
             contract::Assignment{.jobUid = job_uid, .generation = 1, .amends = true, .checkpointRequest = 1, .stopAfter = 1}));
  EXPECT_EQ(wait(AgentPhase::kStopped, 1).checkpointed->request, 1);
}

TEST_F(PollingAgentsTest, SaysThatAnAgentDoesNotAnswerUntilItDoes) {
  const auto port = testing::unused_port();
  aim(target("127.0.0.1:" + std::to_string(port)));
  const auto error = wait_for_error();
  EXPECT_EQ(error, "connect to 127.0.0.1:" + std::to_string(port) + ": Connection refused");
  HttpServer server(
      [](const HttpSeen& seen, HttpReply& reply) { polls_on(seen) ? reply.hold() : send_signed(reply, seen, state_text(1)); },
      port);
  EXPECT_EQ(wait([](const Observation& seen) { return seen.state.has_value(); }).error, "");
}

TEST_F(PollingAgentsTest, SaysThatAnAddressIsNone) {
  aim(target("nonsense"));
  EXPECT_EQ(wait_for_error(), "connect to nonsense: this is no IP:port");
}

TEST_F(PollingAgentsTest, GivesUpOnAnAgentThatNeverAnswersAndAsksAgain) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.hold(); });
  PollingAgents impatient(sink, kImpatient);
  impatient.change_targets({{"pod-uid", target(address(server))}});
  EXPECT_NE(wait_for_error().find("timed out"), std::string::npos);
  EXPECT_NE(wait_for_error().find("timed out"), std::string::npos);
}

TEST_F(PollingAgentsTest, BelievesNoReplyThatIsNotSigned) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.send(200, state_text(1)); });
  aim(target(address(server)));
  EXPECT_NE(wait_for_error().find("signature does not verify"), std::string::npos);
}

TEST_F(PollingAgentsTest, BelievesNoReplyThatIsSignedWithAnotherKey) {
  HttpServer server(
      [](const HttpSeen& seen, HttpReply& reply) { send_signed(reply, seen, state_text(1), 200, std::string(64, 'b')); });
  aim(target(address(server)));
  EXPECT_NE(wait_for_error().find("signature does not verify"), std::string::npos);
}

TEST_F(PollingAgentsTest, BelievesNoReplayedReply) {
  std::mutex mutex;
  std::optional<HttpSeen> first;
  HttpServer server([&](HttpSeen seen, HttpReply& reply) {
    const std::lock_guard lock(mutex);
    if (first) seen.headers["trainyard-nonce"] = first->headers["trainyard-nonce"];  // the answer to the first request once more
    if (!first) first = seen;
    send_signed(reply, seen, state_text(7));
  });
  aim(target(address(server)));
  EXPECT_EQ(wait([](const Observation& seen) { return seen.state.has_value(); }).state->version, 7);
  EXPECT_NE(wait_for_error().find("signature does not verify"), std::string::npos);
}

TEST_F(PollingAgentsTest, SaysThatKeysDiffer) {
  AgentInThread agent;
  auto wrong = target(agent.address());
  wrong.key = std::string(64, 'b');
  aim(wrong);
  const auto seen = wait([](const Observation& each) { return !each.error.empty(); });
  EXPECT_NE(seen.error.find("401 the request carries no signature"), std::string::npos);
  EXPECT_TRUE(seen.other_key);
  aim(target(agent.address()));  // the right key is another target
  wait(AgentPhase::kIdle, 0);
}

TEST_F(PollingAgentsTest, SaysThatAReplyIsNoState) {
  for (const char* body : {"no JSON", R"({"version": "one"})"}) {
    HttpServer server([&](const HttpSeen& seen, HttpReply& reply) { send_signed(reply, seen, body); });
    aim(target(address(server)));
    const std::string expected = "GET /v1/state at " + address(server) + ": the reply is no state";
    wait([&](const Observation& seen) { return seen.error.starts_with(expected); });
  }
}

TEST_F(PollingAgentsTest, RepeatsARequestThatFoundItsKeptConnectionClosed) {
  std::atomic<int> requests = 0;
  HttpServer server([&](const HttpSeen& seen, HttpReply& reply) {
    const int number = ++requests;
    if (number == 2) return reply.cut();  // as an idle connection that was closed just now
    if (number > 3) return reply.hold();
    send_signed(reply, seen, state_text(number));
  });
  aim(target(address(server)));
  const auto first = observed.take(), second = observed.take();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->error, "");
  EXPECT_EQ(second->error, "");
  EXPECT_EQ(second->state->version, 3);
}

TEST_F(PollingAgentsTest, DoesNotSpinWithAnAgentThatAnswersTooEarly) {
  std::atomic<int> requests = 0;
  HttpServer server([&](const HttpSeen& seen, HttpReply& reply) {
    ++requests;
    send_signed(reply, seen, state_text(1));  // ignores waitSeconds
  });
  const auto started = std::chrono::steady_clock::now();
  aim(target(address(server)));
  for (int i = 0; i < 20; ++i) wait([](const Observation& seen) { return seen.state.has_value(); });
  // 20 answers: 0, 5, 10, 20, 20, ... ms apart, at least half of each.
  EXPECT_GE(std::chrono::steady_clock::now() - started, 150ms);
}

TEST_F(PollingAgentsTest, IsNotKeptBusyByAnAgentThatAlwaysHasNews) {
  std::atomic<int> requests = 0;
  HttpServer server([&](const HttpSeen& seen, HttpReply& reply) { send_signed(reply, seen, state_text(++requests)); });
  const auto started = std::chrono::steady_clock::now();
  aim(target(address(server)));
  for (int i = 0; i < 20; ++i) wait([](const Observation& seen) { return seen.state.has_value(); });
  EXPECT_GE(std::chrono::steady_clock::now() - started, 95ms);
}

TEST_F(PollingAgentsTest, TakesNoMoreOfAStateThanAnAgentOfOursWouldTell) {
  contract::State state{.version = 1, .podUid = "pod-uid"};
  for (int i = 1; i <= 100; ++i) state.notices.push_back({.number = i, .reason = "Resumed"});
  state.failure = contract::Failure{.message = std::string(100'000, 'x')};
  state.checkpoint = contract::CheckpointStatus{.path = std::string(5'000, 'x')};
  HttpServer server([&](const HttpSeen& seen, HttpReply& reply) { send_signed(reply, seen, contract::encode(state).dump()); });
  aim(target(address(server)));
  const auto seen = wait([](const Observation& each) { return each.state.has_value(); }).state;
  ASSERT_TRUE(seen);
  ASSERT_EQ(seen->notices.size(), 16u);
  EXPECT_EQ(seen->notices.back().number, 100);
  EXPECT_LE(contract::encode(*seen->failure).dump().size(), 4'096u);
  EXPECT_FALSE(seen->checkpoint);
}

TEST_F(PollingAgentsTest, LeavesAgentsAloneThatAreNoTargetAnyMore) {
  AgentInThread first("first"), second("second");
  const auto target_of = [](const AgentInThread& agent, const std::string& pod_uid, std::int64_t generation) {
    return Target{.pod_uid = pod_uid, .address = agent.address(), .key = kJobKey, .assignment = scripted(generation, "")};
  };
  agents.change_targets({{"first", target_of(first, "first", 1)}, {"second", target_of(second, "second", 1)}});
  first.wait(AgentPhase::kSucceeded);
  second.wait(AgentPhase::kSucceeded);
  agents.change_targets({{"first", std::nullopt}, {"second", target_of(second, "second", 2)}});
  wait(AgentPhase::kSucceeded, 2);  // so the first is none any more
  first.assign(scripted(9, ""));
  first.wait(AgentPhase::kSucceeded, 9);
  agents.change_targets({{"second", target_of(second, "second", 3)}});
  const auto next = wait([](const Observation& seen) {
    EXPECT_EQ(seen.pod_uid, "second");
    return seen.state && seen.state->generation == 3;
  });
  EXPECT_EQ(next.pod_uid, "second");
}

TEST_F(PollingAgentsTest, StopsAtOnceThoughPollsAreWaiting) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.hold(); });
  PollingAgents patient(sink);  // would wait for 40 s
  patient.change_targets({{"pod-uid", target(address(server))}});
  ASSERT_TRUE(server.seen().take());
  const auto started = std::chrono::steady_clock::now();
  patient.stop();
  EXPECT_LT(std::chrono::steady_clock::now() - started, testing::kPatience);
  const auto seen = observed.size();
  patient.change_targets({{"pod-uid", target("nonsense")}});
  patient.stop();
  EXPECT_EQ(observed.size(), seen);
}

}  // namespace
}  // namespace trainyard::agents
