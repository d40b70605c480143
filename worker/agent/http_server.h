#pragma once
// A small HTTP/1.1 server with answers that may come later, as long polls do.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace boost::asio {
class io_context;
}

namespace trainyard::agent {

struct HttpRequest {
  std::string method;  // GET, PUT
  std::string target;  // /v1/state?after=3
  std::string body;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string to_address;                      // the address that the client connected to
};

struct HttpReply {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;
};

/// Lives on the io_context's one thread. Connections are kept alive; one that sends nothing for 75 s is closed, and of more than
/// `most_connections` the oldest that waits for no answer; a body may have 1 MiB.
class HttpServer {
 public:
  using Respond = std::function<void(HttpReply)>;  // once a request, at any time; without effect when the client has gone
  using Handler = std::function<void(const HttpRequest&, Respond)>;

  // Anybody in the cluster can connect, and what is read before a signature is known counts against the ranks' memory limit.
  static constexpr std::size_t kMostConnections = 32;

  /// Port 0 takes a free one. Throws std::runtime_error that names address and port where they cannot be listened on.
  HttpServer(boost::asio::io_context& io, const std::string& address, std::uint16_t port, Handler handler,
             std::size_t most_connections = kMostConnections);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace trainyard::agent
