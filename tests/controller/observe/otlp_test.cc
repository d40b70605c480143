#include "controller/observe/otlp.h"

#include <gtest/gtest.h>

namespace trainyard::observe {
namespace {

using Json = nlohmann::json;
using std::chrono::microseconds;
using std::chrono::seconds;

contract::Time at(std::int64_t micros) { return contract::Time(microseconds(micros)); }

TEST(TraceRequest, IsWrittenInTheJsonEncodingOfOtlp) {
  Span span{.trace_id = std::string(32, 'a'),
            .span_id = std::string(16, 'b'),
            .parent_id = std::string(16, 'c'),
            .name = "start",
            .start = at(1'700'000'000'000'001),
            .end = at(1'700'000'002'000'000)};
  span.attributes = {{"text", std::string("x")}, {"number", std::int64_t{9'007'199'254'740'993}}, {"share", 0.5}, {"yes", true}};
  span.events = {
      {.at = at(1'700'000'001'000'000), .name = "exception", .attributes = {{"exception.message", std::string("no")}}}};
  span.error = "no";
  EXPECT_EQ(trace_request({{"service.name", std::string("me")}}, "1.2", {span}), Json::parse(R"({
    "resourceSpans": [{
      "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "me"}}]},
      "scopeSpans": [{
        "scope": {"name": "trainyard-controller", "version": "1.2"},
        "spans": [{
          "traceId": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "spanId": "bbbbbbbbbbbbbbbb", "parentSpanId": "cccccccccccccccc",
          "name": "start", "kind": 1,
          "startTimeUnixNano": "1700000000000001000", "endTimeUnixNano": "1700000002000000000",
          "attributes": [{"key": "text", "value": {"stringValue": "x"}}, {"key": "number", "value": {"intValue": "9007199254740993"}},
                         {"key": "share", "value": {"doubleValue": 0.5}}, {"key": "yes", "value": {"boolValue": true}}],
          "events": [{"timeUnixNano": "1700000001000000000", "name": "exception",
                      "attributes": [{"key": "exception.message", "value": {"stringValue": "no"}}]}],
          "status": {"code": 2, "message": "no"}}]}]}]})"));
}

TEST(TraceRequest, LeavesOutWhatASpanDoesNotHave) {
  const Json json = trace_request({}, "1", {Span{.name = "root"}, Span{.name = "other"}});
  const Json spans = json.at("/resourceSpans/0/scopeSpans/0/spans"_json_pointer);
  ASSERT_EQ(spans.size(), 2u);
  for (const char* name : {"parentSpanId", "events", "status"}) EXPECT_FALSE(spans[0].contains(name)) << name;
  EXPECT_EQ(spans[0].at("attributes"), Json::array());
}

TEST(AVerdict, TriesAgainWhatTheSpecificationSaysAndNothingElse) {
  for (const int status : {0, 429, 502, 503, 504}) {
    const Verdict verdict = verdict_on({.status = status, .error = "refused", .retry_after = seconds(7)});
    EXPECT_EQ(verdict.what, Verdict::What::kAgain) << status;
    EXPECT_EQ(verdict.wait, seconds(7));
    EXPECT_NE(verdict.problem, "");
  }
  for (const int status : {301, 400, 401, 404, 413, 500, 501}) {
    const Verdict verdict = verdict_on({.status = status, .retry_after = seconds(7)});
    EXPECT_EQ(verdict.what, Verdict::What::kRefused) << status;
    EXPECT_EQ(verdict.wait, std::nullopt);
  }
}

TEST(AVerdict, HasTheCollectorsWords) {
  EXPECT_EQ(verdict_on({.status = 400, .body = R"({"code": 3, "message": "bad span"})"}).problem, "400: bad span");
  EXPECT_EQ(verdict_on({.status = 404, .body = "no such page"}).problem, "404: no such page");
  EXPECT_EQ(verdict_on({.status = 401}).problem, "401");
  EXPECT_EQ(verdict_on({.error = "connect: refused"}).problem, "connect: refused");
  EXPECT_LT(verdict_on({.status = 500, .body = std::string(10'000, 'x')}).problem.size(), 300u);
  for (const char* before : {"", "a", "ab"}) {  // characters of three bytes are cut at none of them
    std::string words = before;
    for (int i = 0; i < 1'000; ++i) words += "€";
    EXPECT_NO_THROW(nlohmann::json(verdict_on({.status = 500, .body = words}).problem).dump());
  }
}

TEST(AVerdict, CountsWhatIsRefusedOfWhatIsTaken) {
  const auto taken = [](const std::string& body) { return verdict_on({.status = 200, .body = body}); };
  EXPECT_EQ(taken("{}").problem, "");
  EXPECT_EQ(taken("").problem, "");
  EXPECT_EQ(taken(R"({"partialSuccess": {}})").problem, "");
  const Verdict some = taken(R"({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}})");
  EXPECT_EQ(some.what, Verdict::What::kTaken);
  EXPECT_EQ(some.refused, 2);
  EXPECT_EQ(some.problem, "it refuses 2 spans: too old");
  EXPECT_EQ(taken(R"({"partialSuccess": {"rejectedSpans": 3}})").refused, 3) << "a number where text is right";
  EXPECT_EQ(taken(R"({"partialSuccess": 7})").refused, 0);
}

}  // namespace
}  // namespace trainyard::observe
