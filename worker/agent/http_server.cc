#include "worker/agent/http_server.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace trainyard::agent {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

constexpr std::chrono::seconds kIdleTime{75};
constexpr std::chrono::seconds kWriteTime{30};
constexpr std::uint64_t kBodyLimit = std::uint64_t{1024} * 1024;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// One connection: read a request, have it answered, write the answer, again.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, std::shared_ptr<const HttpServer::Handler> handler)
      : stream_(std::move(socket)), handler_(std::move(handler)) {}

  void read() {
    parser_.emplace();
    parser_->body_limit(kBodyLimit);
    stream_.expires_after(kIdleTime);
    reading_ = true;
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](auto error, std::size_t) {
      self->reading_ = false;
      if (error) return self->close();
      self->handle();
    });
  }

  /// Waits for a request, or for the rest of one.
  bool is_reading() const { return reading_; }

  void close() {
    beast::error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
    stream_.close();
  }

 private:
  void handle() {
    stream_.expires_never();  // how long the answer may take is the handler's matter
    const auto& message = parser_->get();
    HttpRequest request{.method = std::string(message.method_string()),
                        .target = std::string(message.target()),
                        .body = message.body(),
                        .headers = {},
                        .to_address = to_address()};
    for (const auto& field : message) request.headers[lower(std::string(field.name_string()))] = std::string(field.value());
    // The answer's closure keeps this session until it is given, or thrown away.
    (*handler_)(request, [self = shared_from_this(), answered = false](HttpReply reply) mutable {
      if (!std::exchange(answered, true)) self->write(std::move(reply));
    });
  }

  std::string to_address() {
    boost::system::error_code ignored;
    const auto endpoint = stream_.socket().local_endpoint(ignored);
    return ignored ? std::string() : endpoint.address().to_string();
  }

  void write(HttpReply reply) {
    response_ = {};
    response_.version(parser_->get().version());
    response_.keep_alive(parser_->get().keep_alive());
    response_.result(reply.status);
    response_.set(http::field::content_type, reply.content_type);
    for (const auto& [name, value] : reply.headers) response_.set(name, value);
    response_.body() = std::move(reply.body);
    response_.prepare_payload();
    stream_.expires_after(kWriteTime);
    http::async_write(stream_, response_, [self = shared_from_this()](auto error, std::size_t) {
      if (error || self->response_.need_eof()) return self->close();
      self->read();
    });
  }

  beast::tcp_stream stream_;
  std::shared_ptr<const HttpServer::Handler> handler_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  bool reading_ = false;
};

}  // namespace

struct HttpServer::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& io, Handler given, std::size_t most)
      : acceptor(io), retry(io), handler(std::make_shared<const Handler>(std::move(given))), most_sessions(most) {}

  void listen(const std::string& address, std::uint16_t port) {
    try {
      const tcp::endpoint endpoint(asio::ip::make_address(address), port);
      acceptor.open(endpoint.protocol());
      acceptor.set_option(tcp::acceptor::reuse_address(true));
      acceptor.bind(endpoint);
      acceptor.listen();
    } catch (const boost::system::system_error& error) {
      throw std::runtime_error("listen on " + address + " port " + std::to_string(port) + ": " + error.code().message());
    }
  }

  void accept() {
    acceptor.async_accept([self = shared_from_this()](auto error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !self->acceptor.is_open()) return;
      if (error) {
        // Out of descriptors, most likely: taking the next at once would spin.
        self->retry.expires_after(std::chrono::milliseconds(100));
        self->retry.async_wait([self](auto timer_error) {
          if (!timer_error) self->accept();
        });
        return;
      }
      std::erase_if(self->sessions, [](const auto& weak) { return weak.expired(); });
      if (self->sessions.size() < self->most_sessions || self->drop_one()) {
        const auto session = std::make_shared<Session>(std::move(socket), self->handler);
        self->sessions.push_back(session);
        session->read();
      }
      self->accept();
    });
  }

  /// Closes the oldest connection that waits for no answer; false where all do.
  bool drop_one() {
    for (auto found = sessions.begin(); found != sessions.end(); ++found) {
      const auto session = found->lock();
      if (!session || !session->is_reading()) continue;
      session->close();
      sessions.erase(found);
      return true;
    }
    return false;
  }

  tcp::acceptor acceptor;
  asio::steady_timer retry;
  const std::shared_ptr<const Handler> handler;
  const std::size_t most_sessions;
  std::vector<std::weak_ptr<Session>> sessions;
};

HttpServer::HttpServer(asio::io_context& io, const std::string& address, std::uint16_t port, Handler handler,
                       std::size_t most_connections)
    : impl_(std::make_shared<Impl>(io, std::move(handler), most_connections)) {
  impl_->listen(address, port);
  impl_->accept();
}

HttpServer::~HttpServer() {
  beast::error_code ignored;
  impl_->acceptor.close(ignored);
  impl_->retry.cancel();
  for (const auto& weak : impl_->sessions) {
    if (const auto session = weak.lock()) session->close();
  }
}

std::uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

}  // namespace trainyard::agent
