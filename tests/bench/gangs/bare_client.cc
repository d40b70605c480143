#include "tests/bench/gangs/bare_client.h"

#include <atomic>
#include <latch>
#include <stdexcept>
#include <thread>

#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include "controller/kube/tls.h"

namespace trainyard::bench {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

/// https://127.0.0.1:21234, as apiserver.sh gives it.
tcp::endpoint endpoint_of(const std::string& server) {
  const auto slashes = server.find("//"), colon = server.rfind(':');
  return {asio::ip::make_address(server.substr(slashes + 2, colon - slashes - 2)),
          static_cast<std::uint16_t>(std::stoi(server.substr(colon + 1)))};
}

}  // namespace

struct Wire::Impl {
  asio::io_context io;
  asio::ssl::context tls{asio::ssl::context::tls_client};
  std::unique_ptr<beast::ssl_stream<beast::tcp_stream>> stream;
  beast::flat_buffer buffer;
};

Wire::Wire(const kube::Credentials& credentials) : impl_(std::make_unique<Impl>()) {
  kube::configure_tls(impl_->tls.native_handle(), credentials);
  impl_->stream = std::make_unique<beast::ssl_stream<beast::tcp_stream>>(impl_->io, impl_->tls);
  impl_->stream->next_layer().connect(endpoint_of(credentials.server));
  impl_->stream->next_layer().socket().set_option(tcp::no_delay(true));
  impl_->stream->handshake(asio::ssl::stream_base::client);
}

Wire::~Wire() = default;

Wire::Answer Wire::send(const std::string& method, const std::string& target, const std::string& body) {
  http::request<http::string_body> request(http::string_to_verb(method), target, 11);
  request.set(http::field::host, "kubernetes");
  request.set(http::field::content_type, "application/json");
  request.body() = body;
  request.prepare_payload();
  http::write(*impl_->stream, request);
  http::response_parser<http::string_body> parser;
  parser.body_limit(boost::none);
  http::read(*impl_->stream, impl_->buffer, parser);
  return {.status = parser.get().result_int(), .body = std::move(parser.get().body())};
}

void Wire::read_lines(const std::string& target, const std::function<bool(const std::string& line)>& line) {
  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.set(http::field::host, "kubernetes");
  http::write(*impl_->stream, request);
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  http::read_header(*impl_->stream, impl_->buffer, parser);
  std::string bytes(64 * 1024, '\0'), rest;
  while (!parser.is_done()) {
    parser.get().body().data = bytes.data();
    parser.get().body().size = bytes.size();
    beast::error_code error;
    http::read_some(*impl_->stream, impl_->buffer, parser, error);
    if (error && error != http::error::need_buffer) return;
    rest.append(bytes, 0, bytes.size() - parser.get().body().size);
    std::size_t begin = 0;
    for (auto end = rest.find('\n'); end != std::string::npos; begin = end + 1, end = rest.find('\n', begin)) {
      if (!line(rest.substr(begin, end - begin))) return;
    }
    rest.erase(0, begin);
  }
}

void Wire::shut() { ::shutdown(impl_->stream->next_layer().socket().native_handle(), SHUT_RDWR); }

std::chrono::duration<double> post_all(const kube::Credentials& credentials, int connections, const std::string& target,
                                       const std::vector<std::string>& bodies) {
  std::atomic<std::size_t> next = 0;
  std::atomic<int> refused = 0;
  std::latch ready(connections + 1), go(1);
  Clock::time_point begun;
  std::vector<std::jthread> threads;
  for (int i = 0; i < connections; ++i) {
    threads.emplace_back([&] {
      Wire wire(credentials);
      wire.send("GET", "/version");
      ready.count_down();
      go.wait();
      for (std::size_t item = next++; item < bodies.size(); item = next++) {
        if (wire.send("POST", target, bodies[item]).status != 201) ++refused;
      }
    });
  }
  ready.arrive_and_wait();
  begun = Clock::now();
  go.count_down();
  threads.clear();  // waits for all
  const auto took = Clock::now() - begun;
  if (refused > 0) throw std::runtime_error("POST " + target + ": " + std::to_string(refused) + " were refused");
  return took;
}

}  // namespace trainyard::bench
