#pragma once
// OTLP/HTTP in its JSON encoding: what a collector is sent, and what it answers.
// Source: https://opentelemetry.io/docs/specs/otlp/ and opentelemetry/proto/collector/trace/v1/trace_service.proto.

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "controller/observe/span.h"

namespace trainyard::observe {

/// An ExportTraceServiceRequest. `resource`: what tells of this program; `version`: its own.
nlohmann::json trace_request(const Attributes& resource, const std::string& version, const std::vector<Span>& spans);

/// What came of a request.
struct PostAnswer {
  int status = 0;     // of HTTP; 0: there was no answer
  std::string error;  // then why
  std::string body;
  std::optional<std::chrono::seconds> retry_after;
};

/// What that means for the spans that were sent.
struct Verdict {
  enum class What { kTaken, kAgain, kRefused };
  What what = What::kTaken;
  std::int64_t refused = 0;  // of those that were taken: so many were not
  std::string problem;       // empty: there is none
  std::optional<std::chrono::seconds> wait;
};
/// 429, 502, 503, 504 and no answer are tried again; all others but 2xx are not. Of a partial success nothing is sent again.
Verdict verdict_on(const PostAnswer& answer);

}  // namespace trainyard::observe
