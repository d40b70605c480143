#include "controller/observe/otlp.h"

#include <charconv>
#include <type_traits>

#include "crds/contract/shortened.h"

namespace trainyard::observe {
namespace {

using Json = nlohmann::json;

constexpr int kInternal = 1, kError = 2;         // SpanKind and StatusCode; enums are numbers in OTLP's JSON
constexpr std::size_t kLongestAnswerTold = 256;  // of what a collector says

Json value_of(const Attribute& attribute) {
  return std::visit(
      [](const auto& value) -> Json {
        using T = std::remove_cvref_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>) return {{"stringValue", value}};
        if constexpr (std::is_same_v<T, std::int64_t>) return {{"intValue", std::to_string(value)}};  // 64 bits are text
        if constexpr (std::is_same_v<T, double>) return {{"doubleValue", value}};
        if constexpr (std::is_same_v<T, bool>) return {{"boolValue", value}};
      },
      attribute.value);
}

Json list_of(const Attributes& attributes) {
  Json out = Json::array();
  for (const auto& attribute : attributes) out.push_back({{"key", attribute.key}, {"value", value_of(attribute)}});
  return out;
}

std::string nanoseconds(contract::Time time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

Json json_of(const Span& span) {
  Json out = {{"traceId", span.trace_id},
              {"spanId", span.span_id},
              {"name", span.name},
              {"kind", kInternal},
              {"startTimeUnixNano", nanoseconds(span.start)},
              {"endTimeUnixNano", nanoseconds(span.end)},
              {"attributes", list_of(span.attributes)}};
  if (!span.parent_id.empty()) out["parentSpanId"] = span.parent_id;
  for (const auto& event : span.events) {
    out["events"].push_back(
        {{"timeUnixNano", nanoseconds(event.at)}, {"name", event.name}, {"attributes", list_of(event.attributes)}});
  }
  if (span.error) out["status"] = {{"code", kError}, {"message", *span.error}};
  return out;
}

bool is_worth_another_try(int status) { return status == 0 || status == 429 || status == 502 || status == 503 || status == 504; }

/// Numbers of 64 bits are text in this encoding, and some write them as numbers.
std::int64_t number(const Json& json) {
  if (json.is_number_integer()) return json.get<std::int64_t>();
  std::int64_t out = 0;
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    std::from_chars(text.data(), text.data() + text.size(), out);
  }
  return out;
}

std::string text(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

/// A google.rpc.Status, or whatever else it said.
std::string words_of(const PostAnswer& answer) {
  const Json json = Json::parse(answer.body, nullptr, false);
  const std::string message = json.is_object() ? text(json, "message") : answer.body;
  return std::to_string(answer.status) + (message.empty() ? "" : ": " + contract::shortened(message, kLongestAnswerTold));
}

}  // namespace

Json trace_request(const Attributes& resource, const std::string& version, const std::vector<Span>& spans) {
  Json list = Json::array();
  for (const auto& span : spans) list.push_back(json_of(span));
  const Json scope = {{"name", "trainyard-controller"}, {"version", version}};
  const Json scoped = {{"scope", scope}, {"spans", std::move(list)}};
  const Json of_resource = {{"resource", {{"attributes", list_of(resource)}}}, {"scopeSpans", Json::array({scoped})}};
  return {{"resourceSpans", Json::array({of_resource})}};
}

Verdict verdict_on(const PostAnswer& answer) {
  if (answer.status >= 200 && answer.status < 300) {
    Verdict verdict;
    const Json json = Json::parse(answer.body, nullptr, false);
    const auto partial = json.is_object() ? json.find("partialSuccess") : json.end();
    if (partial == json.end() || !partial->is_object()) return verdict;
    const auto rejected = partial->find("rejectedSpans");
    verdict.refused = rejected == partial->end() ? 0 : number(*rejected);
    if (verdict.refused > 0) {
      verdict.problem = "it refuses " + std::to_string(verdict.refused) +
                        " spans: " + contract::shortened(text(*partial, "errorMessage"), kLongestAnswerTold);
    }
    return verdict;
  }
  const bool again = is_worth_another_try(answer.status);
  return {.what = again ? Verdict::What::kAgain : Verdict::What::kRefused,
          .problem = answer.status == 0 ? answer.error : words_of(answer),
          .wait = again ? answer.retry_after : std::nullopt};
}

}  // namespace trainyard::observe
