#pragma once
// Spans of traces, as OpenTelemetry has them (https://opentelemetry.io/docs/specs/otel/trace/api/).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "crds/contract/time.h"

namespace trainyard::observe {

struct Attribute {
  std::string key;
  std::variant<std::string, std::int64_t, double, bool> value;
  bool operator==(const Attribute&) const = default;
};
using Attributes = std::vector<Attribute>;

struct SpanEvent {
  contract::Time at{};
  std::string name;
  Attributes attributes;
  bool operator==(const SpanEvent&) const = default;
};

struct Span {
  std::string trace_id;   // 32 hexadecimal digits, lower case, not all 0
  std::string span_id;    // 16 of them
  std::string parent_id;  // the same; empty: the span is a root
  std::string name;
  contract::Time start{}, end{};
  Attributes attributes;
  std::vector<SpanEvent> events;
  std::optional<std::string> error;  // what went wrong; nothing: nothing did
  bool operator==(const Span&) const = default;
};

/// Somebody else's span, that ours continue.
struct TraceParent {
  std::string trace_id, span_id;
  bool sampled = false;  // it is recorded
  bool operator==(const TraceParent&) const = default;
};
/// The value of a header traceparent: 00-<trace id>-<span id>-01. Nothing where it is none.
/// Source: https://www.w3.org/TR/trace-context/#traceparent-header, with its rule for versions to come.
std::optional<TraceParent> parse_traceparent(std::string_view text);

}  // namespace trainyard::observe
