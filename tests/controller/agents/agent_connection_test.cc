#include "controller/agents/agent_connection.h"

#include <gtest/gtest.h>
#include <boost/asio/io_context.hpp>

#include "tests/support/http_server.h"

namespace trainyard::agents {
namespace {

using namespace std::chrono_literals;

const std::string kKey(64, 'a');

TEST(AnAgentConnection, MayBeClosedBetweenAnyTwoStepsOfAReply) {
  // Longer than what one read takes in, so that parts of the reply are still to come when an earlier one is here. What goes wrong is for
  // AddressSanitizer to see.
  testing::HttpServer server(
      [](const testing::HttpSeen&, testing::HttpReply& reply) { reply.send(401, std::string(5'000, 'x')); });
  const Peer peer{.address = "127.0.0.1:" + std::to_string(server.port()), .pod_uid = "pod-uid", .key = kKey};
  bool ended = false;
  for (int steps = 1; !ended; ++steps) {
    ASSERT_LT(steps, 1'000);
    boost::asio::io_context io{1};
    AgentConnection connection(io, peer);
    connection.exchange({.method = "GET", .target = "/v1/state", .body = {}}, [&](const Outcome& outcome) {
      EXPECT_EQ(outcome.status, 401u) << outcome.error;
      ended = true;
    });
    for (int i = 0; i < steps && !ended; ++i) ASSERT_EQ(io.run_one_for(10s), 1u);
    connection.close();
    io.run_for(10s);
  }
}

}  // namespace
}  // namespace trainyard::agents
