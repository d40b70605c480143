// The built controller, and a collector of OpenTelemetry traces.

#include <algorithm>
#include <set>

#include "crds/contract/time.h"
#include "tests/integration/built_controller.h"
#include "tests/support/http_server.h"

namespace trainyard {
namespace {

struct Traced : BuiltController {
  testing::HttpServer collector{[](const testing::HttpSeen&, testing::HttpReply& reply) { reply.send(200, "{}"); }};

  std::unique_ptr<Program> start_with_traces(const std::string& identity) {
    return start(identity, {}, {{"OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()}, {"OTEL_RESOURCE_ATTRIBUTES", "team=a"}});
  }
  /// The spans of the next request, by name.
  std::map<std::string, Json> spans() {
    std::map<std::string, Json> out;
    const auto seen = collector.seen().take();
    EXPECT_TRUE(seen) << "nothing came";
    if (!seen) return out;
    EXPECT_EQ(seen->target, "/v1/traces");
    const Json json = Json::parse(seen->body);
    for (const Json& span : json.at("/resourceSpans/0/scopeSpans/0/spans"_json_pointer)) out[span.at("name")] = span;
    resource = json.at("/resourceSpans/0/resource/attributes"_json_pointer);
    return out;
  }
  Json resource;

  void tell(const std::string& pod, const char* phase, const Json& state) {
    perform(Method::kPatch, kPods + "/" + pod + "/status",
            {{"status", {{"phase", phase}, {"containerStatuses", {{{"name", "worker"}, {"state", state}}}}}}});
  }
  Json custom(const std::string& name) {
    Json out = job(name, 2, 1);
    for (const char* part : {"model", "data", "training"}) out["spec"].erase(part);
    out["spec"]["engine"] = "Custom";
    return out;
  }
  static std::string now() {
    return contract::to_rfc3339(std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now()));
  }
};

TEST_F(Traced, AJobIsOneTraceFromItsCreationToItsFirstStepAndOn) {
  const auto controller = start_with_traces("one");
  ASSERT_TRUE(controller->line_with("sending traces"));
  ASSERT_TRUE(controller->line_with("acting"));
  apply(custom("traced"));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  for (const char* pod : {"traced-0-1", "traced-1-1"}) tell(pod, "Running", {{"running", {{"startedAt", now()}}}});
  const auto beginning = spans();
  std::string uid = eventually(kJobs + "/traced", [](const Json& object) {
                      return condition(object, "Running") == "True";
                    }).at("/metadata/uid"_json_pointer);
  std::erase(uid, '-');
  ASSERT_TRUE(beginning.contains("TrainingJob start"));
  const std::string root = beginning.at("TrainingJob start").at("spanId");
  std::set<std::string> names;
  for (const auto& [name, span] : beginning) {
    names.insert(name);
    EXPECT_EQ(span.at("traceId"), uid);
    EXPECT_EQ(span.value("parentSpanId", ""), name == "TrainingJob start" ? "" : root);
    EXPECT_FALSE(span.contains("status")) << span.dump(1);
  }
  EXPECT_EQ(names, (std::set<std::string>{"TrainingJob start", "accept", "place", "create pods", "start workers", "initialise"}));
  EXPECT_NE(resource.dump().find(R"({"key":"team","value":{"stringValue":"a"}})"), std::string::npos) << resource.dump(1);

  controller->signal(SIGTERM);
  EXPECT_EQ(controller->wait(), 0);
  const auto second = start_with_traces("two");
  ASSERT_TRUE(second->line_with("acting"));
  tell("traced-0-1", "Failed", {{"terminated", {{"exitCode", 3}, {"message", "out of luck"}}}});
  const auto training = spans();
  ASSERT_TRUE(training.contains("train"));
  EXPECT_EQ(training.at("train").at("traceId"), uid) << "another controller goes on with the trace";
  EXPECT_EQ(training.at("train").at("parentSpanId"), root);
  EXPECT_EQ(training.at("train").at("/status/code"_json_pointer), 2);
  EXPECT_NE(training.at("train").at("events").dump().find("\"process.exit.code\",\"value\":{\"intValue\":\"3\"}"),
            std::string::npos)
      << training.at("train").dump(1);
}

TEST_F(Traced, AControllerThatEndsSendsWhatItHas) {
  const auto controller = start_with_traces("one");
  ASSERT_TRUE(controller->line_with("acting"));
  apply(custom("last"));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  for (const char* pod : {"last-0-1", "last-1-1"}) tell(pod, "Running", {{"running", {{"startedAt", now()}}}});
  // Events follow the answer to the status they tell of. Where that answer is lost, so are the spans.
  eventually("/api/v1/namespaces/default/events", [](const Json& list) {
    const auto& events = list.at("items");
    return std::any_of(events.begin(), events.end(), [](const Json& event) {
      return event.at("/involvedObject/name"_json_pointer) == "last" && event.at("reason") == "ProgramsRun";
    });
  });
  controller->signal(SIGTERM);
  EXPECT_EQ(controller->wait(), 0);
  EXPECT_TRUE(spans().contains("TrainingJob start"));
}

TEST_F(Traced, ACollectorThatIsAwayHoldsUpNothing) {
  const auto controller =
      start("one", {}, {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:" + std::to_string(testing::unused_port())}});
  ASSERT_TRUE(controller->line_with("acting"));
  apply(custom("untraced"));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  for (const char* pod : {"untraced-0-1", "untraced-1-1"}) tell(pod, "Running", {{"running", {{"startedAt", now()}}}});
  ASSERT_TRUE(controller->line_with("traces cannot be sent"));
  for (const char* pod : {"untraced-0-1", "untraced-1-1"}) tell(pod, "Succeeded", {{"terminated", {{"exitCode", 0}}}});
  eventually(kJobs + "/untraced", [](const Json& object) { return condition(object, "Complete") == "True"; });
  controller->signal(SIGTERM);
  EXPECT_EQ(controller->wait(), 0);
}

}  // namespace
}  // namespace trainyard
