#include "controller/kube/rest_kube_api.h"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "tests/support/http_server.h"
#include "tests/support/temporary_folder.h"

namespace trainyard::kube {
namespace {

using namespace std::chrono_literals;
using testing::HttpReply;
using testing::HttpSeen;
using testing::HttpServer;

Credentials reaching(const std::string& server) {
  Credentials credentials;
  credentials.server = server;
  return credentials;
}

constexpr RetryLimits kQuick{.retries = 3, .first_wait = 1ms, .longest_wait = 2'000ms};

TEST(RestKubeApi, SendsMethodPathQueryBodyAndToken) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.send(201, R"({"kind":"Pod"})"); });
  Credentials credentials = reaching(server.url());
  credentials.token = "secret";
  RestKubeApi api(credentials);

  const Response response = api.perform({.method = Method::kPatch,
                                         .path = "/api/v1/namespaces/default/pods/a",
                                         .query = {{"fieldManager", "trainyard controller"}},
                                         .body = {{"kind", "Pod"}},
                                         .content_type = "application/apply-patch+yaml"});

  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(response.body, Json({{"kind", "Pod"}}));
  const auto seen = server.seen().take();
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->method, "PATCH");
  EXPECT_EQ(seen->target, "/api/v1/namespaces/default/pods/a?fieldManager=trainyard%20controller");
  EXPECT_EQ(seen->body, R"({"kind":"Pod"})");
  EXPECT_EQ(seen->headers.at("content-type"), "application/apply-patch+yaml");
  EXPECT_EQ(seen->headers.at("authorization"), "Bearer secret");
  EXPECT_EQ(seen->headers.at("accept"), "application/json");
}

TEST(RestKubeApi, ARotatedTokenIsUsed) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.send(200, "{}"); });
  const testing::TemporaryFolder folder;
  Credentials credentials = reaching(server.url());
  credentials.token_file = folder.write("token", "first");
  RestKubeApi(credentials).perform({.path = "/version"});
  folder.write("token", "second");
  RestKubeApi(credentials).perform({.path = "/version"});
  EXPECT_EQ(server.seen().take()->headers.at("authorization"), "Bearer first");
  EXPECT_EQ(server.seen().take()->headers.at("authorization"), "Bearer second");
}

TEST(RestKubeApi, GivesReasonAndMessageOfARefusal) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) {
    reply.send(409, R"({"kind":"Status","reason":"Conflict","message":"the object has been modified"})");
  });
  const Response response =
      RestKubeApi(reaching(server.url())).perform({.method = Method::kPut, .path = "/x", .body = {{"a", 1}}});
  EXPECT_TRUE(response.is_conflict());
  EXPECT_EQ(response.message, "the object has been modified");
  EXPECT_EQ(server.seen().size(), 1u) << "a conflict is the caller's to handle";
}

TEST(RestKubeApi, WaitsForARetryAfterAndTriesAgain) {
  std::atomic<int> requests = 0;
  HttpServer server([&](const HttpSeen&, HttpReply& reply) {
    if (++requests == 1) {
      reply.send(429, R"({"kind":"Status","reason":"TooManyRequests","message":"slow down"})", {{"Retry-After", "0"}});
    } else {
      reply.send(200, "{}");
    }
  });
  EXPECT_EQ(RestKubeApi(reaching(server.url()), kQuick).perform({.path = "/x"}).status, 200);
  EXPECT_EQ(requests, 2);
}

TEST(RestKubeApi, LeavesALongRetryAfterToTheCaller) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.send(429, "{}", {{"Retry-After", "30"}}); });
  const Response response = RestKubeApi(reaching(server.url()), kQuick).perform({.path = "/x"});
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.retry_after, 30s);
  EXPECT_EQ(server.seen().size(), 1u);
}

TEST(RestKubeApi, LeavesEveryRetryToACallerWhoIsNotPatient) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.send(429, "{}", {{"Retry-After", "0"}}); });
  EXPECT_EQ(RestKubeApi(reaching(server.url()), kQuick).perform({.path = "/x", .patient = false}).status, 429);
  EXPECT_EQ(server.seen().size(), 1u);
}

TEST(RestKubeApi, GivesUpAfterItsRetries) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.send(429, "{}", {{"Retry-After", "0"}}); });
  EXPECT_EQ(RestKubeApi(reaching(server.url()), kQuick).perform({.path = "/x"}).status, 429);
  EXPECT_EQ(server.seen().size(), 4u);
}

TEST(RestKubeApi, SaysWhoCouldNotBeReached) {
  const std::string server = "http://127.0.0.1:" + std::to_string(testing::unused_port());
  const Response response = RestKubeApi(reaching(server), kQuick).perform({.path = "/api/v1/pods"});
  EXPECT_EQ(response.status, 0);
  EXPECT_TRUE(response.is_temporary());
  EXPECT_TRUE(response.not_sent);
  EXPECT_NE(response.message.find("GET " + server + "/api/v1/pods: could not connect"), std::string::npos) << response.message;
}

TEST(RestKubeApi, TriesAgainWhenTheConnectionWasRefused) {
  const auto port = testing::unused_port();
  RestKubeApi api(reaching("http://127.0.0.1:" + std::to_string(port)), {.retries = 1000, .first_wait = 1ms});
  std::optional<HttpServer> server;
  std::jthread later([&] { server.emplace([](const HttpSeen&, HttpReply& reply) { reply.send(200, "{}"); }, port); });
  EXPECT_EQ(api.perform({.path = "/x", .timeout = 20s}).status, 200);
}

TEST(RestKubeApi, DoesNotRepeatARequestThatMayHaveHappened) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.cut(); });
  const Response response =
      RestKubeApi(reaching(server.url()), kQuick).perform({.method = Method::kPost, .path = "/x", .body = {{"a", 1}}});
  EXPECT_EQ(response.status, 0);
  EXPECT_FALSE(response.not_sent);
  EXPECT_NE(response.message.find("/x: the connection broke ("), std::string::npos) << response.message;
  EXPECT_NE(response.message.find("is the API server up"), std::string::npos) << response.message;
  EXPECT_EQ(server.seen().size(), 1u);
}

TEST(RestKubeApi, AServerThatGoesInTheHandshakeIsNoWrongCertificate) {
  namespace ip = boost::asio::ip;
  boost::asio::io_context io;
  ip::tcp::acceptor server(io, {ip::address_v4::loopback(), 0});
  std::jthread closes([&server] { server.accept().close(); });
  const std::string url = "https://127.0.0.1:" + std::to_string(server.local_endpoint().port());
  const Response response = RestKubeApi(reaching(url), {.retries = 0}).perform({.path = "/x"});
  EXPECT_EQ(response.status, 0);
  EXPECT_NE(response.message.find("/x: the connection broke ("), std::string::npos) << response.message;
}

TEST(RestKubeApi, ARequestThatCannotBeSentIsNoConnectionThatBroke) {
  const Response response = RestKubeApi(reaching("http://127.0.0.1:1"), kQuick).perform({.path = "/no URI"});
  EXPECT_EQ(response.status, 0);
  EXPECT_NE(response.message.find("/no URI: it cannot be sent ("), std::string::npos) << response.message;
}

TEST(RestKubeApi, ABodyThatIsCutOffIsNoAnswer) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) {
    reply.begin();
    reply.chunk(R"({"items":[)");
    reply.cut();
  });
  EXPECT_EQ(RestKubeApi(reaching(server.url())).perform({.path = "/x"}).status, 0);
}

TEST(RestKubeApi, ARequestEndsAfterItsTimeout) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.hold(); });
  const Response response = RestKubeApi(reaching(server.url())).perform({.path = "/x", .timeout = 20ms});
  EXPECT_EQ(response.status, 0);
  EXPECT_NE(response.message.find("no answer in"), std::string::npos) << response.message;
}

TEST(RestKubeApi, ATimeoutEndsABodyThatDoesNotEnd) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) {
    reply.begin();
    reply.chunk("{");
    reply.hold();
  });
  EXPECT_EQ(RestKubeApi(reaching(server.url())).perform({.path = "/x", .timeout = 20ms}).status, 0);
}

TEST(RestKubeApi, StopEndsWhatIsUnderWayAndWhatComesLater) {
  HttpServer server([](const HttpSeen&, HttpReply& reply) { reply.hold(); });
  RestKubeApi api(reaching(server.url()));
  testing::Inbox<Response> answers;
  std::jthread hand([&] { answers.put(api.perform({.path = "/x", .timeout = 600s})); });
  ASSERT_TRUE(server.seen().take());
  api.stop();
  const auto answer = answers.take();
  ASSERT_TRUE(answer);
  EXPECT_NE(answer->message.find("stopped"), std::string::npos) << answer->message;
  EXPECT_EQ(api.perform({.path = "/x", .timeout = 600s}).status, 0);
}

TEST(RestKubeApi, ManyRequestsAtOnceShareWarmConnections) {
  HttpServer server([](const HttpSeen& seen, HttpReply& reply) { reply.send(200, "\"" + seen.target + "\""); });
  RestKubeApi api(reaching(server.url()));
  std::atomic<int> right = 0;
  {
    std::vector<std::jthread> hands;
    for (int hand = 0; hand < 8; ++hand) {
      hands.emplace_back([&, hand] {
        for (int i = 0; i < 20; ++i) {
          const std::string path = "/" + std::to_string(hand) + "/" + std::to_string(i);
          right += api.perform({.path = path}).body == path;
        }
      });
    }
  }
  EXPECT_EQ(right, 160);
}

TEST(RestKubeApi, FollowsNoRedirect) {
  HttpServer other([](const HttpSeen&, HttpReply& reply) { reply.send(200, "{}"); });
  HttpServer server([&](const HttpSeen&, HttpReply& reply) { reply.send(302, "", {{"Location", other.url() + "/x"}}); });
  Credentials credentials = reaching(server.url());
  credentials.token = "secret";
  RestKubeApi(credentials).perform({.path = "/x"});
  EXPECT_EQ(other.seen().size(), 0u) << "the token went to somebody else";
}

TEST(RestKubeApi, ReachesAnIpv6Address) {
  std::optional<HttpServer> server;
  try {
    server.emplace([](const HttpSeen&, HttpReply& reply) { reply.send(200, "{}"); }, 0, /*ipv6=*/true);
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << "this machine has no IPv6 on loopback";
  }
  const Response response = RestKubeApi(reaching(server->url())).perform({.path = "/x"});
  EXPECT_EQ(response.status, 200) << response.message;
}

TEST(RestKubeApi, ABadCertificateIsReportedAtTheStart) {
  Credentials credentials = reaching("https://127.0.0.1:1");
  credentials.authority_pem = "nonsense";
  EXPECT_THROW(RestKubeApi{credentials}, CredentialsError);
  credentials.authority_pem.clear();
  credentials.client_certificate_pem = credentials.client_key_pem = "nonsense";
  EXPECT_THROW(RestKubeApi{credentials}, CredentialsError);
}

}  // namespace
}  // namespace trainyard::kube
