#pragma once
// Sends spans to a collector, apart from everything else.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controller/observe/span.h"
#include "controller/observe/tracing_settings.h"

namespace trainyard::observe {

/// What became of spans; the label `result` of trainyard_trace_spans_total.
namespace span_result {
inline constexpr const char* kSent = "sent";
inline constexpr const char* kRefused = "refused";    // by the collector
inline constexpr const char* kGivenUp = "given_up";   // nothing took them for `give_up`
inline constexpr const char* kOverflow = "overflow";  // too many waited: the oldest went
inline constexpr const char* kEnd = "end";            // the program ended before they were sent
}  // namespace span_result

struct SpanExporterOptions {
  std::string version;               // this program's
  std::size_t most_waiting = 2'048;  // the numbers are those of OpenTelemetry's BatchSpanProcessor and of its collector's retries
  std::size_t batch = 512;
  std::chrono::milliseconds delay{1'000};       // a batch waits so long for more
  std::chrono::milliseconds first_wait{1'000};  // before another try; twice as long each time …
  std::chrono::milliseconds last_wait{30'000};  // … up to this
  std::chrono::milliseconds give_up{300'000};   // a batch is tried for so long
  std::chrono::milliseconds flush{3'000};       // at the end
  /// From the sending thread: so many spans had this result.
  std::function<void(const char* result, std::size_t number)> counted = [](const char*, std::size_t) {};
  /// From the sending thread, at each change: what keeps spans from being taken; empty: they are again.
  std::function<void(const std::string& what)> trouble = [](const std::string&) {};
};

/// A bounded queue and one thread, which makes batches and sends them one after another. A collector that is slow, wrong or away costs
/// spans, and nobody any time.
class SpanExporter {
 public:
  /// Throws std::runtime_error where TLS cannot be set up.
  SpanExporter(const TracingSettings& settings, SpanExporterOptions options);
  /// Sends what waits, in options.flush at most.
  ~SpanExporter();
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  /// Returns at once. Any thread.
  void add(std::vector<Span> spans);

 private:
  class Sender;
  std::unique_ptr<Sender> sender_;
};

}  // namespace trainyard::observe
