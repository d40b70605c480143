#pragma once
// /healthz, /readyz and /metrics over plain HTTP, for the kubelet and Prometheus; and /debug/snapshot, for people.

#include <functional>
#include <memory>
#include <string>

namespace trainyard::observe {

/// What the endpoints answer. Called on the endpoints' thread; each must be quick and thread-safe.
struct EndpointAnswers {
  /// Empty: all is well (200 ok). Else what is wrong (503): for /healthz, the kubelet then restarts this container.
  std::function<std::string()> health;
  std::function<std::string()> readiness;
  std::function<std::string()> metrics;  // Prometheus' text format
  /// JSON (decide/snapshot.h). Empty: not served here. It holds what templates hold, environment variables too, so only where nobody else
  /// can ask: on a loopback address, which `kubectl port-forward` reaches.
  std::function<std::string()> snapshot = {};
};

/// One thread and its Beast server; GET and HEAD alone; a connection that stands still for 10 s is closed.
class Endpoints {
 public:
  /// `address` is HOST:PORT, as in 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses; port 0 takes a free one. Throws
  /// std::runtime_error naming the address and why it cannot be listened on.
  Endpoints(const std::string& address, EndpointAnswers answers);
  ~Endpoints();  // closes all connections
  Endpoints(const Endpoints&) = delete;
  Endpoints& operator=(const Endpoints&) = delete;

  unsigned short port() const;

 private:
  class Server;
  std::unique_ptr<Server> server_;
};

}  // namespace trainyard::observe
