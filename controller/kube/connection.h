#pragma once
// HTTP to one API server: cpprestsdk behind two calls. Everything else in this folder is built on these.

#include <chrono>
#include <memory>
#include <string>

#include "controller/kube/credentials.h"
#include "controller/kube/kube_api.h"

namespace trainyard::kube {

/// The body of an answer while it arrives. One thread.
class Stream {
 public:
  virtual ~Stream() = default;
  /// What answered: where it is not ok(), read() gives nothing.
  virtual const Response& head() const = 0;
  /// Blocks until there is something, and returns all that there is; empty: the stream ended.
  virtual std::string read() = 0;
  /// After the end: why, or empty when the server ended it properly.
  virtual const std::string& error() const = 0;
};

/// A pool of warm connections (cpprestsdk's http_client). Any thread, several at a time; all calls block.
/// The first Connection of the process limits cpprestsdk, which would start 40 threads, to 8: they only move bytes.
class Connection {
 public:
  /// Throws CredentialsError where the certificates cannot be used. `idle_timeout` ends what has stood still for that long.
  Connection(const Credentials& credentials, std::chrono::milliseconds idle_timeout);
  ~Connection();  // stops first
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Ends, with an answer of status 0, after `timeout`, whatever the server does.
  Response send(const Request& request, std::chrono::milliseconds timeout);
  /// A GET whose body is read as it comes; `request.timeout` is for the headers alone.
  std::unique_ptr<Stream> open(const Request& request);
  /// Ends everything under way, and everything that comes after, at once with status 0. For good.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trainyard::kube
