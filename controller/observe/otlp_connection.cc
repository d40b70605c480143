#include "controller/observe/otlp_connection.h"

#include <atomic>
#include <charconv>
#include <functional>
#include <future>
#include <stdexcept>
#include <thread>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

namespace trainyard::observe {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kMaxAnswerBytes = std::uint64_t{64} * 1024;
constexpr milliseconds kLookAtAbort{20};

struct Addresses {
  std::vector<tcp::endpoint> endpoints;
  beast::error_code error;
};

/// getaddrinfo() has no time limit, so it gets a thread that nobody waits for longer than he likes.
std::future<Addresses> look_up(const std::string& host, const std::string& port) {
  auto promise = std::make_shared<std::promise<Addresses>>();
  auto future = promise->get_future();
  std::thread([promise, host, port] {
    Addresses found;
    asio::io_context io;
    for (const auto& entry : tcp::resolver(io).resolve(host, port, found.error)) found.endpoints.push_back(entry.endpoint());
    promise->set_value(std::move(found));
  }).detach();
  return future;
}

/// Seconds; a date is left to the own back-off.
std::optional<std::chrono::seconds> seconds_in(beast::string_view text) {
  int seconds = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size() || seconds < 0) return std::nullopt;
  return std::chrono::seconds(seconds);
}

std::string words_of(const beast::error_code& error) { return error == beast::error::timeout ? "timed out" : error.message(); }

PostAnswer failure(const std::string& what, const std::string& why) { return {.error = what + ": " + why}; }

/// One request and its answer over a stream that is connected first, and made secure where it is one of TLS.
template <class Stream>
class Exchange {
 public:
  Exchange(Stream& stream, const http::request<http::string_body>& request, bool is_ip)
      : stream_(stream), request_(request), is_ip_(is_ip) {
    parser_.body_limit(kMaxAnswerBytes);
  }

  void begin(const std::vector<tcp::endpoint>& endpoints, SteadyClock::time_point deadline, const std::string& host) {
    host_ = host;
    beast::get_lowest_layer(stream_).expires_at(deadline);
    beast::get_lowest_layer(stream_).async_connect(endpoints, [this](beast::error_code error, const tcp::endpoint&) {
      if (error) return fail("connect", error);
      secure();
    });
  }
  void cancel() {
    beast::error_code ignored;
    beast::get_lowest_layer(stream_).socket().close(ignored);
  }
  PostAnswer answer() && { return std::move(answer_); }

 private:
  void secure() {
    if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
      write();
    } else {
      if (!is_ip_) SSL_set_tlsext_host_name(stream_.native_handle(), host_.c_str());
      stream_.set_verify_mode(asio::ssl::verify_peer);
      stream_.set_verify_callback(asio::ssl::host_name_verification(host_));
      stream_.async_handshake(asio::ssl::stream_base::client, [this](beast::error_code error) {
        if (error) return fail("TLS", error);
        write();
      });
    }
  }
  void write() {
    http::async_write(stream_, request_, [this](beast::error_code error, std::size_t) {
      if (error) return fail("write", error);
      read();
    });
  }
  void read() {
    http::async_read(stream_, buffer_, parser_, [this](beast::error_code error, std::size_t) {
      if (error) return fail("read the answer", error);
      const auto& reply = parser_.get();
      answer_.status = reply.result_int();
      answer_.body = reply.body();
      answer_.retry_after = seconds_in(reply[http::field::retry_after]);
    });
  }
  void fail(const char* what, const beast::error_code& error) { answer_ = failure(what, words_of(error)); }

  Stream& stream_;
  const http::request<http::string_body>& request_;
  const bool is_ip_;
  std::string host_;
  beast::flat_buffer buffer_;
  http::response_parser<http::string_body> parser_;
  PostAnswer answer_;
};

}  // namespace

struct OtlpConnection::Impl {
  explicit Impl(const TracingSettings& given) : settings(given) {
    if (!settings.tls) return;
    tls.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
    if (settings.authorities.empty()) {
      tls.set_default_verify_paths();
    } else {
      tls.add_certificate_authority(asio::buffer(settings.authorities));
    }
  }

  http::request<http::string_body> request_with(const std::string& body) const {
    http::request<http::string_body> request(http::verb::post, settings.target, 11);
    const std::string host = settings.host.find(':') == std::string::npos ? settings.host : "[" + settings.host + "]";
    request.set(http::field::host, host + ":" + settings.port);
    request.set(http::field::user_agent, "trainyard-controller");
    for (const auto& [name, value] : settings.headers) request.set(name, value);
    request.set(http::field::content_type, "application/json");
    request.set(http::field::connection, "close");
    request.body() = body;
    request.prepare_payload();
    return request;
  }

  /// By the time of the deadline, or not at all.
  Addresses addresses(SteadyClock::time_point deadline) {
    beast::error_code is_name;
    const auto ip = asio::ip::make_address(settings.host, is_name);
    int port = 0;
    std::from_chars(settings.port.data(), settings.port.data() + settings.port.size(), port);
    if (!is_name) return {.endpoints = {{ip, static_cast<unsigned short>(port)}}, .error = {}};
    if (!lookup.valid()) lookup = look_up(settings.host, settings.port);  // else the last one has not come back yet
    while (!aborted && SteadyClock::now() < deadline) {
      if (lookup.wait_for(kLookAtAbort) == std::future_status::ready) return lookup.get();
    }
    return {.endpoints = {}, .error = aborted ? asio::error::operation_aborted : beast::error_code(beast::error::timeout)};
  }

  template <class Stream>
  PostAnswer exchange(Stream& stream, const http::request<http::string_body>& request,
                      const std::vector<tcp::endpoint>& endpoints, SteadyClock::time_point deadline) {
    beast::error_code is_name;
    asio::ip::make_address(settings.host, is_name);
    Exchange<Stream> under_way(stream, request, !is_name);
    cancel = [&under_way] { under_way.cancel(); };
    under_way.begin(endpoints, deadline, settings.host);
    io.restart();
    io.run();
    cancel = nullptr;
    return std::move(under_way).answer();
  }

  const TracingSettings settings;
  asio::io_context io{1};
  asio::ssl::context tls{asio::ssl::context::tls_client};
  std::future<Addresses> lookup;
  std::function<void()> cancel;  // of the thread that posts
  std::atomic<bool> aborted = false;
};

OtlpConnection::OtlpConnection(const TracingSettings& settings) try : impl_(std::make_unique<Impl>(settings)) {
} catch (const boost::system::system_error& error) {
  throw std::runtime_error("set up TLS to " + settings.url + ": " + error.what());
}
OtlpConnection::~OtlpConnection() = default;

PostAnswer OtlpConnection::post(const std::string& body, milliseconds timeout) {
  Impl& impl = *impl_;
  const auto deadline = SteadyClock::now() + timeout;
  const Addresses found = impl.addresses(deadline);
  if (found.error) return failure("look up " + impl.settings.host, words_of(found.error));
  if (impl.aborted) return failure("connect", "aborted");
  const auto request = impl.request_with(body);
  if (!impl.settings.tls) {
    beast::tcp_stream stream(impl.io);
    return impl.exchange(stream, request, found.endpoints, deadline);
  }
  beast::ssl_stream<beast::tcp_stream> stream(impl.io, impl.tls);
  return impl.exchange(stream, request, found.endpoints, deadline);
}

void OtlpConnection::abort() {
  impl_->aborted = true;
  asio::post(impl_->io, [impl = impl_.get()] {
    if (impl->cancel) impl->cancel();
  });
}

}  // namespace trainyard::observe
