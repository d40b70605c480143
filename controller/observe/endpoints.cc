#include "controller/observe/endpoints.h"

#include <chrono>
#include <optional>
#include <stdexcept>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "crds/contract/host_port.h"

namespace trainyard::observe {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

constexpr std::chrono::seconds kIdleTimeout{10};
constexpr std::chrono::milliseconds kAcceptPause{100};
constexpr std::uint64_t kMaxBodyBytes = 1024;

using Request = http::request<http::string_body>;
using Reply = http::response<http::string_body>;

Reply reply_to(const Request& request, http::status status, std::string body, const char* type = "text/plain; charset=utf-8") {
  Reply reply(status, request.version());
  reply.set(http::field::content_type, type);
  reply.keep_alive(request.keep_alive());
  reply.body() = request.method() == http::verb::head ? "" : body;
  reply.content_length(body.size());
  return reply;
}

Reply verdict(const Request& request, const std::string& problem) {
  return problem.empty() ? reply_to(request, http::status::ok, "ok\n")
                         : reply_to(request, http::status::service_unavailable, problem + "\n");
}

Reply answer(const Request& request, const EndpointAnswers& answers) {
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    return reply_to(request, http::status::method_not_allowed, "only GET and HEAD\n");
  }
  const auto path = request.target().substr(0, request.target().find('?'));
  if (path == "/healthz") return verdict(request, answers.health());
  if (path == "/readyz") return verdict(request, answers.readiness());
  if (path == "/metrics")
    return reply_to(request, http::status::ok, answers.metrics(), "text/plain; version=0.0.4; charset=utf-8");
  if (path == "/debug/snapshot" && answers.snapshot) {
    return reply_to(request, http::status::ok, answers.snapshot(), "application/json");
  }
  return reply_to(request, http::status::not_found,
                  answers.snapshot ? "there are /healthz, /readyz, /metrics and /debug/snapshot\n"
                                   : "there are /healthz, /readyz and /metrics\n");
}

/// One connection; lives as long as a handler of it is pending.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, const EndpointAnswers& answers) : stream_(std::move(socket)), answers_(answers) {}

  void read() {
    parser_.emplace();
    parser_->body_limit(kMaxBodyBytes);
    stream_.expires_after(kIdleTimeout);
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      if (!error) self->write(answer(self->parser_->get(), self->answers_));
    });
  }

 private:
  void write(Reply reply) {
    reply_ = std::move(reply);
    http::async_write(stream_, reply_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      if (!error && self->reply_.keep_alive()) self->read();
    });
  }

  beast::tcp_stream stream_;
  const EndpointAnswers& answers_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  Reply reply_;
};

tcp::endpoint parse(const std::string& address) {
  const auto at = contract::read_host_port(address);
  beast::error_code error;
  asio::ip::address ip = asio::ip::address_v6::any();
  if (at && !at->host.empty()) ip = asio::ip::make_address(at->host, error);
  if (!at || !at->port || error) throw std::runtime_error("listen on `" + address + "`: write IP:PORT, [IPv6]:PORT or :PORT");
  return {ip, *at->port};
}

}  // namespace

class Endpoints::Server {
 public:
  Server(const std::string& address, EndpointAnswers answers)
      : answers_(std::move(answers)), acceptor_(context_), pause_(context_) {
    listen(address);
    accept();
    thread_ = std::jthread([this] { context_.run(); });
  }
  ~Server() {
    context_.stop();
    thread_.join();
  }
  unsigned short port() const { return port_; }

 private:
  void listen(const std::string& address) {
    tcp::endpoint endpoint = parse(address);
    beast::error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (error && endpoint.address().is_unspecified()) {  // a machine without IPv6
      endpoint = {asio::ip::address_v4::any(), endpoint.port()};
      acceptor_.open(endpoint.protocol(), error);
    }
    if (!error && endpoint.address().is_v6() && endpoint.address().is_unspecified()) {
      acceptor_.set_option(asio::ip::v6_only(false), error);  // IPv4 too
    }
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) throw std::runtime_error("listen on `" + address + "`: " + error.message());
    port_ = acceptor_.local_endpoint().port();
  }
  void accept() {
    acceptor_.async_accept([this](beast::error_code error, tcp::socket socket) {
      if (!error) {
        std::make_shared<Session>(std::move(socket), answers_)->read();
        return accept();
      }
      // Too many open files, say: some may be closed in a while.
      pause_.expires_after(kAcceptPause);
      pause_.async_wait([this](beast::error_code) { accept(); });
    });
  }

  const EndpointAnswers answers_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  unsigned short port_ = 0;
  std::jthread thread_;
};

Endpoints::Endpoints(const std::string& address, EndpointAnswers answers)
    : server_(std::make_unique<Server>(address, std::move(answers))) {}
Endpoints::~Endpoints() = default;
unsigned short Endpoints::port() const { return server_->port(); }

}  // namespace trainyard::observe
