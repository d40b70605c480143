#pragma once
// HTTP and HTTPS to a collector: one POST at a time, each on a connection of its own, since there are few.

#include <chrono>
#include <memory>
#include <string>

#include "controller/observe/otlp.h"
#include "controller/observe/tracing_settings.h"

namespace trainyard::observe {

class OtlpConnection {
 public:
  /// Loads the system's authorities at once, where the settings name none and want TLS. Throws std::runtime_error where OpenSSL fails.
  explicit OtlpConnection(const TracingSettings& settings);
  ~OtlpConnection();
  OtlpConnection(const OtlpConnection&) = delete;
  OtlpConnection& operator=(const OtlpConnection&) = delete;

  /// Blocks until there is an answer, or `timeout` is over, whatever name servers and peers do. One thread.
  PostAnswer post(const std::string& body, std::chrono::milliseconds timeout);
  /// Ends the post under way, and all that come after, at once. Any thread.
  void abort();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trainyard::observe
