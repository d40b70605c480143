#include "controller/agents/agent_connection.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "crds/contract/host_port.h"
#include "crds/contract/signature.h"

namespace trainyard::agents {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

constexpr std::uint64_t kReplyLimit = std::uint64_t{256} * 1024;  // several times a failure and 16 notices of 4 KiB

std::optional<tcp::endpoint> parse_endpoint(const std::string& address) {
  const auto at = contract::read_host_port(address);
  if (!at || at->port.value_or(0) == 0) return std::nullopt;
  boost::system::error_code error;
  const auto ip = asio::ip::make_address(at->host, error);
  if (error) return std::nullopt;
  return tcp::endpoint(ip, *at->port);
}

std::string text_of(const beast::error_code& error) {
  if (error == beast::error::timeout) return "timed out";
  if (error == http::error::end_of_stream) return "the connection was closed";
  return error.message();
}

/// The agent has closed the connection. A machine that is cut off does not: then time-outs and missing routes are what is heard of.
bool is_closed_by_peer(const beast::error_code& error) {
  return error == http::error::end_of_stream || error == asio::error::eof || error == asio::error::connection_reset ||
         error == asio::error::broken_pipe;
}

/// Lets the kernel ask a peer that is silent in the middle of a long poll whether it is there, and break the connection where nothing was
/// acknowledged for `silence`. On Linux none of this can fail.
void break_when_silent(tcp::socket& socket, std::chrono::seconds silence) {
  const int seconds = static_cast<int>(silence.count());
  const auto set = [&socket](int level, int option, int value) {
    ::setsockopt(socket.native_handle(), level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, std::max(1, seconds / 2));
  set(IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, seconds / 5));
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 1'000 * seconds);  // of probes too, in place of a number of them (TCP_KEEPCNT)
}

/// A socket, and what is read from and written to it. Each handler holds the wire that it belongs to, since Beast goes on using all of it
/// until the last handler has run: closing the socket does not take back a completion that is already queued.
struct Wire {
  explicit Wire(asio::io_context& io) : stream(io) {}
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  http::request<http::string_body> request;
  std::optional<http::response_parser<http::string_body>> parser;
};

}  // namespace

struct AgentConnection::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& context, Peer given) : io(context), peer(std::move(given)) {}

  void begin() {
    nonce = contract::fresh_nonce();
    reused = wire != nullptr;
    if (reused) return write();
    connect();
  }

  http::request<http::string_body> signed_request() const {
    http::request<http::string_body> request;
    request.version(11);
    request.method_string(exchange.method);
    request.target(exchange.target);
    request.set(http::field::host, peer.address);
    request.set(contract::kNonceHeader, nonce);
    request.set(contract::kSignatureHeader, contract::sign(peer.key, {.method = exchange.method,
                                                                      .target = exchange.target,
                                                                      .pod_uid = peer.pod_uid,
                                                                      .nonce = nonce,
                                                                      .body = exchange.body}));
    if (!exchange.body.empty()) request.set(http::field::content_type, "application/json");
    request.body() = exchange.body;
    request.prepare_payload();
    return request;
  }

  void connect() {
    const auto endpoint = parse_endpoint(peer.address);
    if (!endpoint) {
      asio::post(io, [self = shared_from_this()] { self->fail("connect to " + self->peer.address + ": this is no IP:port"); });
      return;
    }
    wire = std::make_shared<Wire>(io);
    wire->stream.expires_after(exchange.connect_timeout);
    wire->stream.async_connect(*endpoint, [self = shared_from_this(), mine = wire](auto error) {
      if (mine != self->wire) return;
      if (error) return self->fail("connect to " + self->peer.address + ": " + text_of(error));
      boost::system::error_code ignored;
      mine->stream.socket().set_option(tcp::no_delay(true), ignored);
      break_when_silent(mine->stream.socket(), self->exchange.silence);
      self->write();
    });
  }

  void write() {
    wire->request = signed_request();
    wire->parser.emplace();
    wire->parser->body_limit(kReplyLimit);
    wire->stream.expires_after(exchange.reply_timeout);
    http::async_write(wire->stream, wire->request, [self = shared_from_this(), mine = wire](auto error, std::size_t) {
      if (mine != self->wire) return;
      if (error) return self->broken(error);
      self->read();
    });
  }

  void read() {
    http::async_read(wire->stream, wire->buffer, *wire->parser,
                     [self = shared_from_this(), mine = wire](auto error, std::size_t) {
                       if (mine != self->wire) return;
                       if (error) return self->broken(error);
                       self->finish();
                     });
  }

  /// The agent may close an idle connection just when the next request goes out: that is nobody's failure.
  void broken(const beast::error_code& error) {
    const bool retry = reused && !wire->parser->got_some() && is_closed_by_peer(error);
    drop();
    if (!retry) return fail(exchange.method + " " + exchange.target + " at " + peer.address + ": " + text_of(error));
    begin();
  }

  void finish() {
    const auto& reply = wire->parser->get();
    wire->stream.expires_never();
    Outcome outcome{.error = {}, .status = reply.result_int(), .body = reply.body()};
    const std::string signature(reply[contract::kSignatureHeader]);
    const bool verifies = contract::verify(peer.key,
                                           {.method = exchange.method,
                                            .target = exchange.target,
                                            .pod_uid = peer.pod_uid,
                                            .nonce = nonce,
                                            .status = static_cast<std::int32_t>(outcome.status),
                                            .body = outcome.body},
                                           signature);
    if (!verifies && outcome.status != 401) {
      drop();
      return fail(exchange.method + " " + exchange.target + " at " + peer.address + ": the reply's signature does not verify");
    }
    if (reply.need_eof()) drop();
    std::exchange(done, nullptr)(std::move(outcome));
  }

  void fail(const std::string& error) {
    drop();
    if (done) std::exchange(done, nullptr)({.error = error});
  }

  void drop() {
    if (!wire) return;
    wire->stream.close();
    wire.reset();
  }

  asio::io_context& io;
  const Peer peer;
  Exchange exchange;
  Done done;
  std::string nonce;
  std::shared_ptr<Wire> wire;  // nothing: not connected. A handler of one that was dropped finds another, or none, here
  bool reused = false;
};

AgentConnection::AgentConnection(asio::io_context& io, Peer peer) : impl_(std::make_shared<Impl>(io, std::move(peer))) {}

AgentConnection::~AgentConnection() { close(); }

void AgentConnection::exchange(Exchange exchange, Done done) {
  impl_->exchange = std::move(exchange);
  impl_->done = std::move(done);
  impl_->begin();
}

void AgentConnection::close() {
  impl_->done = nullptr;
  impl_->drop();
}

}  // namespace trainyard::agents
