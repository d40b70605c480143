#include "worker/agent/agent_service.h"

#include <future>

#include <poll.h>

#include <gtest/gtest.h>

#include "crds/contract/sparse.h"
#include "tests/worker/agent/agent_in_thread.h"
#include "tests/worker/agent/signed_client.h"

namespace trainyard::agent {
namespace {

using contract::AgentPhase;
using testing::AgentInThread;
using testing::kJobKey;
using testing::scripted;
using testing::send;

std::string text(const contract::Assignment& assignment) { return contract::encode(assignment).dump(); }
contract::State state_in(const testing::SignedReply& reply) {
  return contract::decode<contract::State>(contract::Json::parse(reply.body)).value;
}

TEST(AgentService, TakesASignedAssignmentAndAnswersWithTheSignedState) {
  AgentInThread agent;
  const auto reply =
      send(agent.port(), {.method = "PUT", .target = "/v1/assignment", .body = text(scripted(3, "wait")), .key = kJobKey});
  EXPECT_EQ(reply.status, 200u);
  EXPECT_TRUE(reply.verifies);
  EXPECT_EQ(state_in(reply).generation, 3);
  EXPECT_EQ(state_in(reply).phase, AgentPhase::kStarting);
}

TEST(AgentService, RefusesWhatIsNotSignedForThisPodAndThisRequest) {
  AgentInThread agent;
  const std::string body = text(scripted(1, "wait"));
  const contract::SignedMessage other_target{
      .method = "PUT", .target = "/v1/state", .pod_uid = "pod-uid", .nonce = "n", .body = body};
  const contract::SignedMessage other_body{
      .method = "PUT", .target = "/v1/assignment", .pod_uid = "pod-uid", .nonce = "n", .body = ""};
  const std::vector<testing::SignedRequest> wrong = {
      {.key = kJobKey, .signature = ""},
      {.key = std::string(64, 'b')},
      {.key = kJobKey, .pod_uid = "another pod"},
      {.key = kJobKey, .nonce = ""},
      {.method = "PUT", .target = "/v1/assignment", .body = body, .key = kJobKey, .signature = ""},
      {.method = "PUT",
       .target = "/v1/assignment",
       .body = body,
       .nonce = "n",
       .signature = contract::sign(kJobKey, other_target)},
      {.method = "PUT",
       .target = "/v1/assignment",
       .body = body,
       .nonce = "n",
       .signature = contract::sign(kJobKey, other_body)}};
  for (const auto& request : wrong) EXPECT_EQ(send(agent.port(), request).status, 401u);
  EXPECT_EQ(agent.state().generation, 0);
}

TEST(AgentService, SaysWhyItRefusesAnAssignment) {
  AgentInThread agent;
  agent.assign(scripted(5, "wait"));
  const auto put = [&](const std::string& body) {
    return send(agent.port(), {.method = "PUT", .target = "/v1/assignment", .body = body, .key = kJobKey});
  };
  const auto lower = put(text(scripted(4, "wait")));
  EXPECT_EQ(lower.status, 409u);
  EXPECT_TRUE(lower.verifies);
  EXPECT_NE(lower.body.find("generation 4 is lower than 5"), std::string::npos) << lower.body;
  EXPECT_EQ(put(text(scripted(5, "another content"))).status, 409u);
  EXPECT_EQ(put("no JSON").status, 400u);
  const auto wrong_type = put(R"({"generation": "six"})");
  EXPECT_EQ(wrong_type.status, 400u);
  EXPECT_NE(wrong_type.body.find("generation"), std::string::npos);
}

TEST(AgentService, TrainsNothingOfAnAssignmentOfANewerReleaseThatAsksForWhatItDoesNotKnow) {
  for (const char* field : {R"({"sharpness": 0.1})", R"({"precision": {"compute": "FP4"}})", R"({"loss": {"focal": {}}})"}) {
    AgentInThread agent;
    auto json = contract::encode_sparse(scripted(1, "steps:5"));
    json["spec"]["training"].update(contract::Json::parse(field));
    const auto reply = send(agent.port(), {.method = "PUT", .target = "/v1/assignment", .body = json.dump(), .key = kJobKey});
    EXPECT_EQ(reply.status, 200u);
    const auto state = state_in(reply);
    EXPECT_EQ(state.phase, AgentPhase::kFailed);
    ASSERT_TRUE(state.failure);
    EXPECT_NE(state.failure->message.find("spec.training."), std::string::npos) << state.failure->message;
    EXPECT_NE(state.failure->message.find("image"), std::string::npos) << state.failure->message;
  }
}

TEST(AgentService, RefusesAWordBesideTheSpecThatItDoesNotKnow) {
  AgentInThread agent;
  const auto put = [&agent](const contract::Json& json) {
    return send(agent.port(), {.method = "PUT", .target = "/v1/assignment", .body = json.dump(), .key = kJobKey});
  };
  auto json = contract::encode_sparse(scripted(1, "wait"));
  json["pause"] = true;
  const auto reply = put(json);
  EXPECT_EQ(reply.status, 400u);
  EXPECT_NE(reply.body.find("pause: unknown field"), std::string::npos) << reply.body;
  json.erase("pause");
  EXPECT_EQ(put(json).status, 200u);
  EXPECT_EQ(put({{"jobUid", "job-uid"}, {"generation", 1}, {"amends", true}, {"pause", true}}).status, 400u);
  EXPECT_EQ(agent.state().phase, AgentPhase::kStarting) << "its ranks run on";
}

TEST(AgentService, AnswersAtOnceWhenTheVersionDiffers) {
  AgentInThread agent;
  const auto reply = send(agent.port(), {.target = "/v1/state?after=0&waitSeconds=30", .key = kJobKey});
  EXPECT_EQ(reply.status, 200u);
  EXPECT_TRUE(reply.verifies);
  EXPECT_EQ(state_in(reply).version, 1);
}

TEST(AgentService, AnswersALongPollWhenTheStateChanges) {
  AgentInThread agent;
  auto poll = std::async(std::launch::async,
                         [&] { return send(agent.port(), {.target = "/v1/state?after=1&waitSeconds=30", .key = kJobKey}); });
  agent.assign(scripted(1, "wait"));
  ASSERT_EQ(poll.wait_for(testing::kPatience), std::future_status::ready);
  const auto reply = poll.get();
  EXPECT_TRUE(reply.verifies);
  EXPECT_GT(state_in(reply).version, 1);
}

TEST(AgentService, AnswersALongPollAfterItsTimeThoughNothingChanged) {
  AgentInThread agent;
  const auto started = std::chrono::steady_clock::now();
  const auto reply = send(agent.port(), {.target = "/v1/state?after=1&waitSeconds=1", .key = kJobKey});
  EXPECT_GE(std::chrono::steady_clock::now() - started, std::chrono::milliseconds(900));
  EXPECT_EQ(state_in(reply).version, 1);
}

TEST(AgentService, ClosesTheOldestOfManyConnectionsThatSendNothingAndServesTheNext) {
  AgentInThread agent;
  boost::asio::io_context io;
  std::vector<boost::asio::ip::tcp::socket> idle;
  for (int i = 0; i < 100; ++i) {
    idle.emplace_back(io).connect({boost::asio::ip::address_v4::loopback(), agent.port()});
  }
  EXPECT_EQ(send(agent.port(), {.key = kJobKey}).status, 200u);
  pollfd closed{.fd = idle.front().native_handle(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&closed, 1, 10'000), 1) << "it is not closed before it would be for its silence";
  EXPECT_EQ(send(agent.port(), {.target = "/v1/state?after=1&waitSeconds=1", .key = kJobKey}).status, 200u);
}

TEST(AgentService, RefusesNumbersThatAreNone) {
  AgentInThread agent;
  for (const char* query : {"after=x", "after=-1", "waitSeconds=1.5"}) {
    EXPECT_EQ(send(agent.port(), {.target = std::string("/v1/state?") + query, .key = kJobKey}).status, 400u) << query;
  }
}

TEST(AgentService, ServesHealthAndMetricsToEverybody) {
  AgentInThread agent;
  EXPECT_EQ(send(agent.port(), {.target = "/healthz", .signature = ""}).status, 200u);
  agent.assign(scripted(1, "steps:5", {0, 1}));
  agent.wait(AgentPhase::kSucceeded);
  const auto metrics = send(agent.port(), {.target = "/metrics", .signature = ""});
  EXPECT_EQ(metrics.status, 200u);
  for (const char* line : {"trainyard_agent_phase{phase=\"Succeeded\"} 1\n", "trainyard_agent_phase{phase=\"Failed\"} 0\n",
                           "trainyard_training_step 5\n", "trainyard_training_loss 1.1000000000000001\n",
                           "trainyard_tokens_per_second 1000\n", "trainyard_ranks_started_total 2\n"}) {
    EXPECT_NE(metrics.body.find(line), std::string::npos) << line << "in\n" << metrics.body;
  }
}

TEST(AgentService, KnowsItsPathsAndMethods) {
  AgentInThread agent;
  EXPECT_EQ(send(agent.port(), {.target = "/v2", .key = kJobKey}).status, 404u);
  EXPECT_EQ(send(agent.port(), {.method = "POST", .target = "/v1/state", .key = kJobKey}).status, 405u);
}

TEST(QueryValue, FindsAValueAmongOthers) {
  EXPECT_EQ(query_value("/v1/state?after=3&waitSeconds=30", "waitSeconds"), "30");
  EXPECT_EQ(query_value("/v1/state?after=3", "waitSeconds"), "");
  EXPECT_EQ(query_value("/v1/state", "after"), "");
  EXPECT_EQ(query_value("/v1/state?thereafter=3", "after"), "");
}

}  // namespace
}  // namespace trainyard::agent
