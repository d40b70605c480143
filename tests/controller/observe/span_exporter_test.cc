#include "controller/observe/span_exporter.h"

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "controller/observe/otlp_connection.h"
#include "tests/controller/observe/tls_collector.h"
#include "tests/support/http_server.h"

namespace trainyard::observe {
namespace {

using Json = nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HttpReply;
using testing::HttpSeen;
using testing::HttpServer;
using SteadyClock = std::chrono::steady_clock;

TracingSettings settings_for(const std::string& host, unsigned short port) {
  TracingSettings settings{.host = host, .port = std::to_string(port), .target = "/v1/traces"};
  settings.url = "http://" + host + ":" + settings.port + settings.target;
  settings.resource = {{"service.name", std::string("me")}};
  return settings;
}
TracingSettings settings_for(const HttpServer& server) { return settings_for("127.0.0.1", server.port()); }

/// What an exporter tells of.
struct Told {
  SpanExporterOptions options() {
    SpanExporterOptions out{
        .version = "1", .delay = milliseconds(20), .first_wait = milliseconds(2), .last_wait = milliseconds(10)};
    out.counted = [this](const char* result, std::size_t number) {
      const std::lock_guard lock(mutex);
      counts[result] += number;
    };
    out.trouble = [this](const std::string& what) { troubles.put(what); };
    return out;
  }
  std::size_t count(const std::string& result) {
    const std::lock_guard lock(mutex);
    return counts[result];
  }
  std::size_t all() {
    const std::lock_guard lock(mutex);
    std::size_t sum = 0;
    for (const auto& [result, number] : counts) sum += number;
    return sum;
  }
  std::mutex mutex;
  std::map<std::string, std::size_t> counts;
  testing::Inbox<std::string> troubles;
};

std::vector<Span> some_spans(int number, const std::string& name = "span") {
  std::vector<Span> out;
  out.reserve(static_cast<std::size_t>(number));
  for (int i = 0; i < number; ++i)
    out.push_back({.trace_id = std::string(32, 'a'), .span_id = std::string(16, 'b'), .name = name});
  return out;
}

Json spans_in(const std::string& body) { return Json::parse(body).at("/resourceSpans/0/scopeSpans/0/spans"_json_pointer); }

void take_all(const HttpSeen&, HttpReply& reply) { reply.send(200, "{}"); }

TEST(SpanExporter, SendsWhatComesTogetherInOneRequest) {
  HttpServer collector(take_all);
  Told told;
  auto settings = settings_for(collector);
  settings.headers = {{"Authorization", "Bearer x"}};
  {
    auto options = told.options();
    options.delay = seconds(30);  // until the end, then
    SpanExporter exporter(settings, options);
    exporter.add(some_spans(2, "first"));
    exporter.add(some_spans(1, "second"));
  }
  const auto seen = collector.seen().take();
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->method, "POST");
  EXPECT_EQ(seen->target, "/v1/traces");
  EXPECT_EQ(seen->headers.at("content-type"), "application/json");
  EXPECT_EQ(seen->headers.at("authorization"), "Bearer x");
  EXPECT_EQ(seen->headers.at("host"), "127.0.0.1:" + settings.port);
  EXPECT_EQ(spans_in(seen->body).size(), 3u);
  EXPECT_EQ(collector.seen().size(), 0u);
  EXPECT_EQ(told.count(span_result::kSent), 3u);
  EXPECT_EQ(told.troubles.size(), 0u);
}

TEST(SpanExporter, MakesNoBatchLargerThanItMayBe) {
  HttpServer collector(take_all);
  Told told;
  auto options = told.options();
  options.batch = 2;
  { SpanExporter(settings_for(collector), options).add(some_spans(5)); }
  for (const std::size_t size : {2u, 2u, 1u}) EXPECT_EQ(spans_in(collector.seen().take()->body).size(), size);
}

TEST(SpanExporter, TriesAgainAndTellsOfItAtAChangeAlone) {
  std::atomic<int> requests = 0;
  HttpServer collector([&requests](const HttpSeen&, HttpReply& reply) {
    if (++requests <= 3) {
      reply.send(503, R"({"message": "full"})");
    } else {
      reply.send(200, "{}");
    }
  });
  Told told;
  SpanExporter exporter(settings_for(collector), told.options());
  exporter.add(some_spans(2));
  EXPECT_EQ(told.troubles.take(), "503: full");
  EXPECT_EQ(told.troubles.take(), "") << "taken again; nothing was told between the two";
  const std::string body = collector.seen().take()->body;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(collector.seen().take()->body, body);
  exporter.add(some_spans(1));
  ASSERT_TRUE(collector.seen().take());
  EXPECT_EQ(told.troubles.size(), 0u);
}

TEST(SpanExporter, WaitsAsLongAsTheCollectorAsks) {
  std::atomic<int> requests = 0;
  HttpServer collector([&requests](const HttpSeen&, HttpReply& reply) {
    if (++requests == 1) {
      reply.send(429, "", {{"Retry-After", "1"}});
    } else {
      reply.send(200, "{}");
    }
  });
  Told told;
  SpanExporter exporter(settings_for(collector), told.options());
  exporter.add(some_spans(1));
  ASSERT_TRUE(collector.seen().take());
  const auto asked = SteadyClock::now();
  ASSERT_TRUE(collector.seen().take());
  EXPECT_GE(SteadyClock::now() - asked, milliseconds(900));
}

TEST(SpanExporter, DoesNotTryAgainWhatIsRefused) {
  HttpServer collector([](const HttpSeen&, HttpReply& reply) { reply.send(400, "bad"); });
  Told told;
  {
    SpanExporter exporter(settings_for(collector), told.options());
    exporter.add(some_spans(3));
    EXPECT_EQ(told.troubles.take(), "400: bad");
  }
  EXPECT_EQ(collector.seen().size(), 1u);
  EXPECT_EQ(told.count(span_result::kRefused), 3u);
}

TEST(SpanExporter, CountsWhatIsRefusedOfABatch) {
  HttpServer collector([](const HttpSeen&, HttpReply& reply) {
    reply.send(200, R"({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}})");
  });
  Told told;
  { SpanExporter(settings_for(collector), told.options()).add(some_spans(3)); }
  EXPECT_EQ(told.count(span_result::kRefused), 2u);
  EXPECT_EQ(told.count(span_result::kSent), 1u);
  EXPECT_EQ(told.troubles.take(), "it refuses 2 spans: too old");
}

TEST(SpanExporter, HoldsNoMoreThanItMayWhenNobodyTakesThem) {
  Told told;
  auto options = told.options();
  options.most_waiting = 10;
  options.batch = 5;
  options.flush = milliseconds(200);
  {
    SpanExporter exporter(settings_for("127.0.0.1", testing::unused_port()), options);
    for (int i = 0; i < 200; ++i) exporter.add(some_spans(5));
    const auto trouble = told.troubles.take();
    ASSERT_TRUE(trouble);
    EXPECT_NE(trouble->find("connect: "), std::string::npos) << *trouble;
  }
  EXPECT_GE(told.count(span_result::kOverflow), 1'000u - 10 - 5);
  EXPECT_EQ(told.all(), 1'000u) << "each is accounted for";
  EXPECT_EQ(told.count(span_result::kSent), 0u);
}

TEST(SpanExporter, GivesABatchUpAfterAWhile) {
  HttpServer collector([](const HttpSeen&, HttpReply& reply) { reply.send(503, ""); });
  Told told;
  testing::Inbox<std::string> results;
  auto options = told.options();
  options.give_up = milliseconds(100);
  options.counted = [&results](const char* result, std::size_t) { results.put(result); };
  SpanExporter exporter(settings_for(collector), options);
  exporter.add(some_spans(2));
  EXPECT_EQ(results.take(), span_result::kGivenUp);
  EXPECT_GT(collector.seen().size(), 1u);
}

TEST(SpanExporter, EndsInTimeThoughTheCollectorStandsStill) {
  HttpServer collector([](const HttpSeen&, HttpReply& reply) { reply.hold(); });
  Told told;
  auto options = told.options();
  options.flush = milliseconds(200);
  TracingSettings settings = settings_for(collector);
  settings.timeout = std::chrono::hours(1);  // which this test would take otherwise
  {
    SpanExporter exporter(settings, options);
    exporter.add(some_spans(2));
    ASSERT_TRUE(collector.seen().take());
    exporter.add(some_spans(3));
  }
  EXPECT_EQ(told.count(span_result::kEnd), 5u);
}

TEST(SpanExporter, EndsAtOnceThoughItWaitsForAnotherTry) {
  HttpServer collector([](const HttpSeen&, HttpReply& reply) { reply.send(503, "", {{"Retry-After", "3600"}}); });
  Told told;
  {  // an hour, if it did not
    SpanExporter exporter(settings_for(collector), told.options());
    exporter.add(some_spans(2));
    ASSERT_TRUE(told.troubles.take());
  }
  EXPECT_EQ(collector.seen().size(), 2u) << "one more try";
  EXPECT_EQ(told.count(span_result::kEnd), 2u);
}

TEST(OtlpConnection, FindsAHostByItsName) {
  HttpServer collector(take_all);
  EXPECT_EQ(OtlpConnection(settings_for("localhost", collector.port())).post("{}", seconds(10)).status, 200);
  const auto nowhere = OtlpConnection(settings_for("nowhere.invalid", 1)).post("{}", seconds(10));
  EXPECT_EQ(nowhere.status, 0);
  EXPECT_TRUE(nowhere.error.starts_with("look up nowhere.invalid: ")) << nowhere.error;
}

TEST(OtlpConnection, SaysWhatFailed) {
  HttpServer collector([](const HttpSeen& seen, HttpReply& reply) { seen.body == "hold" ? reply.hold() : reply.cut(); });
  OtlpConnection connection(settings_for(collector));
  EXPECT_TRUE(connection.post("cut", seconds(10)).error.starts_with("read the answer: "));
  EXPECT_EQ(connection.post("hold", milliseconds(50)).error, "read the answer: timed out");
}

TEST(OtlpConnection, TrustsTheAuthoritiesThatItWasGivenAndChecksTheName) {
  const Pem mine = make_certificate("IP:127.0.0.1"), of_another_name = make_certificate("DNS:another.test");
  const auto post = [](const Pem& pem, const std::string& authorities) {
    TlsCollector collector(pem);
    auto settings = settings_for("127.0.0.1", collector.port());
    settings.tls = true;
    settings.authorities = authorities;
    const auto answer = OtlpConnection(settings).post("spans", seconds(10));
    return std::pair(answer, collector.body());
  };
  const auto [taken, body] = post(mine, mine.certificate);
  EXPECT_EQ(taken.status, 200) << taken.error;
  EXPECT_EQ(body, "spans");
  for (const auto& [answer, seen] :
       {post(mine, of_another_name.certificate), post(of_another_name, of_another_name.certificate)}) {
    EXPECT_EQ(answer.status, 0);
    EXPECT_TRUE(answer.error.starts_with("TLS: ")) << answer.error;
    EXPECT_EQ(seen, "") << "nothing is told to a stranger";
  }
}

}  // namespace
}  // namespace trainyard::observe
