#pragma once
// A small real HTTP server on loopback whose answers a test scripts, misbehaviour included: an answer cut off, a stream that
// stands still, a connection that says nothing.

#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "tests/support/inbox.h"

namespace trainyard::testing {

struct HttpSeen {
  std::string method;
  std::string target;                          // path and query
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

/// How a handler answers. On the connection's thread.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void send(int status, const std::string& body, const std::map<std::string, std::string>& headers = {}) = 0;
  /// A chunked answer: begin, chunks, end.
  virtual void begin(int status = 200) = 0;
  virtual void chunk(const std::string& text) = 0;
  virtual void end() = 0;
  /// Closes the connection in the middle of whatever was sent.
  virtual void cut() = 0;
  /// Stands still until the server goes, or the client closes the connection.
  virtual void hold() = 0;
};

/// A thread a connection; connections are kept alive. The handler runs on them, several at once for several connections.
class HttpServer {
 public:
  using Handler = std::function<void(const HttpSeen&, HttpReply&)>;
  explicit HttpServer(Handler handler, unsigned short port = 0, bool ipv6 = false);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  unsigned short port() const { return port_; }
  std::string url() const { return (ipv6_ ? "http://[::1]:" : "http://127.0.0.1:") + std::to_string(port_); }
  /// Every request, before its handler runs.
  Inbox<HttpSeen>& seen() { return seen_; }

 private:
  class Connection;
  void accept_all();

  const Handler handler_;
  const bool ipv6_;
  Inbox<HttpSeen> seen_;
  int listener_ = -1;
  unsigned short port_ = 0;
  std::mutex mutex_;
  bool stopped_ = false;
  std::list<std::unique_ptr<Connection>> connections_;
  std::jthread acceptor_;
};

/// A port on which nobody listens.
unsigned short unused_port();

}  // namespace trainyard::testing
