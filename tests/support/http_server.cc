#include "tests/support/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cctype>
#include <stdexcept>

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace trainyard::testing {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = boost::asio::ip::tcp;

int listen_on(unsigned short port, bool ipv6) {
  const int fd = ::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in loopback{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  sockaddr_in6 loopback6{};
  loopback6.sin6_family = AF_INET6;
  loopback6.sin6_port = htons(port);
  loopback6.sin6_addr = in6addr_loopback;
  const auto* address = ipv6 ? reinterpret_cast<sockaddr*>(&loopback6) : reinterpret_cast<sockaddr*>(&loopback);
  if (::bind(fd, address, ipv6 ? sizeof loopback6 : sizeof loopback) != 0 || ::listen(fd, 64) != 0) {
    ::close(fd);
    throw std::runtime_error("listen on port " + std::to_string(port) + " of loopback failed");
  }
  return fd;
}

unsigned short port_of(int fd) {
  sockaddr_in6 address{};  // the port stands at the same place in both families
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin6_port);
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

class HttpServer::Connection : public HttpReply {
 public:
  Connection(HttpServer& server, int fd) : server_(server), fd_(fd), thread_([this] { serve(); }) {}
  /// From the server's thread: whatever the connection's thread waits for ends.
  void shut_down() const { ::shutdown(fd_, SHUT_RDWR); }
  ~Connection() override {
    shut_down();
    if (thread_.joinable()) thread_.join();
    ::close(fd_);
  }

  void send(int status, const std::string& body, const std::map<std::string, std::string>& headers) override {
    write("HTTP/1.1 " + std::to_string(status) + " Scripted\r\nContent-Type: application/json\r\nContent-Length: " +
          std::to_string(body.size()) + "\r\n" + lines_of(headers) + "\r\n" + body);
  }
  void begin(int status) override {
    write("HTTP/1.1 " + std::to_string(status) +
          " Scripted\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
  }
  void chunk(const std::string& text) override {
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", text.size());
    write(size + text + "\r\n");
  }
  void end() override { write("0\r\n\r\n"); }
  void cut() override { shut_down(); }
  void hold() override {
    pollfd waits{.fd = fd_, .events = POLLIN | POLLRDHUP, .revents = 0};
    while (::poll(&waits, 1, -1) < 0 && errno == EINTR) {
    }
  }

 private:
  static std::string lines_of(const std::map<std::string, std::string>& headers) {
    std::string lines;
    for (const auto& [name, value] : headers) {
      lines += name;
      lines += ": " + value + "\r\n";
    }
    return lines;
  }
  void write(const std::string& bytes) const {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const auto count = ::send(fd_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (count <= 0) return;  // the client went: a test may want just that
      done += static_cast<std::size_t>(count);
    }
  }
  bool receive() {
    char bytes[16384];
    const auto count = ::recv(fd_, bytes, sizeof bytes, 0);
    if (count <= 0) return false;
    unread_.append(bytes, static_cast<std::size_t>(count));
    return true;
  }
  void serve() {
    while (true) {
      http::request_parser<http::string_body> parser;
      parser.eager(true);
      bool wants_more = unread_.empty();
      while (!parser.is_done()) {
        if (wants_more && !receive()) return;
        beast::error_code error;
        unread_.erase(0, parser.put(boost::asio::buffer(unread_), error));
        if (error && error != http::error::need_more) return;
        wants_more = true;
      }
      const auto& request = parser.get();
      HttpSeen seen{std::string(request.method_string()), std::string(request.target()), {}, request.body()};
      for (const auto& field : request) seen.headers[lower(std::string(field.name_string()))] = std::string(field.value());
      server_.seen_.put(seen);
      server_.handler_(seen, *this);
    }
  }

  HttpServer& server_;
  const int fd_;
  std::string unread_;
  std::jthread thread_;
};

HttpServer::HttpServer(Handler handler, unsigned short port, bool ipv6)
    : handler_(std::move(handler)), ipv6_(ipv6), listener_(listen_on(port, ipv6)), port_(port_of(listener_)), acceptor_([this] {
        accept_all();
      }) {}

HttpServer::~HttpServer() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    for (const auto& connection : connections_) connection->shut_down();
  }
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  connections_.clear();
  ::close(listener_);
}

void HttpServer::accept_all() {
  while (true) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const std::lock_guard lock(mutex_);
    if (stopped_ || fd < 0) {
      if (fd >= 0) ::close(fd);
      return;
    }
    connections_.push_back(std::make_unique<Connection>(*this, fd));
  }
}

unsigned short unused_port() {
  const int fd = listen_on(0, false);
  const unsigned short port = port_of(fd);
  ::close(fd);
  return port;
}

}  // namespace trainyard::testing
