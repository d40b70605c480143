#pragma once
// Where traces go, as the environment variables of the OpenTelemetry specification say.
// Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and …/otel/configuration/sdk-environment-variables/.

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controller/observe/span.h"

namespace trainyard::observe {

struct TracingSettings {
  bool tls = false;
  std::string host, port;  // the host without the brackets of IPv6
  std::string target;      // /v1/traces
  std::string url;         // of all of these, for messages
  std::vector<std::pair<std::string, std::string>> headers;
  std::string authorities;  // PEM; empty: the system's
  std::chrono::milliseconds timeout{10'000};
  Attributes resource;
};

/// An environment variable, or nothing; tests hand in their own.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// Nothing where no endpoint is named, or OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER says no. Read are OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT,
/// _HEADERS, _TIMEOUT, _CERTIFICATE, _PROTOCOL and _COMPRESSION, where those with TRACES_ go first; OTEL_SERVICE_NAME and
/// OTEL_RESOURCE_ATTRIBUTES. Client certificates and samplers are refused. `own`: attributes of the resource that the environment may change.
/// What cannot be used goes into `problems`, each with the variable's name and without what may be a secret.
std::optional<TracingSettings> read_tracing_settings(const Environment& environment, Attributes own,
                                                     std::vector<std::string>& problems);

}  // namespace trainyard::observe
