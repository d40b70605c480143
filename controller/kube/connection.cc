#include "controller/kube/connection.h"

#include <atomic>
#include <list>
#include <mutex>
#include <stdexcept>

#include <cpprest/http_client.h>
#include <cpprest/rawptrstream.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pplx/threadpool.h>

#include "controller/kube/answer.h"
#include "controller/kube/tls.h"

namespace trainyard::kube {
namespace {

namespace http = web::http;

constexpr int kThreads = 8;

void set_up_cpprestsdk() {
  static std::once_flag once;
  std::call_once(once, [] {
    OPENSSL_init_ssl(0, nullptr);  // before the threads, which leave to it what they hold: it is to go after them
    crossplat::threadpool::initialize_with_threads(kThreads);
    hide_system_authorities();
  });
}

http::client::http_client_config config_of(const Credentials& credentials, std::chrono::milliseconds idle_timeout) {
  http::client::http_client_config config;
  config.set_timeout(idle_timeout);
  config.set_max_redirects(0);  // a redirected request would carry the token to somebody else
  config.set_validate_certificates(!credentials.skip_tls_verification);
  config.set_ssl_context_callback(
      [credentials](boost::asio::ssl::context& context) { configure_tls(context.native_handle(), credentials); });
  return config;
}

/// cpprestsdk hands the host to the resolver as it stands in the URI, and the resolver wants no brackets around IPv6; it takes what
/// follows the last colon as the port, so that https://fd00::1:6443 is understood.
std::string address_of(const std::string& server) {
  const auto open = server.find('['), close = server.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return server;
  const std::string rest = server.substr(close + 1);
  const std::string port = rest.starts_with(':') ? "" : server.starts_with("https") ? ":443" : ":80";
  return server.substr(0, open) + server.substr(open + 1, close - open - 1) + port + rest;
}

std::optional<std::chrono::seconds> retry_after_of(const http::http_headers& headers) {
  const auto at = headers.find("Retry-After");
  if (at == headers.end() || at->second.empty() || at->second.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return std::chrono::seconds(std::stoll(at->second.substr(0, 9)));
}

/// The requests under way, so that each can be ended: by its time or by stop().
class Flights {
 public:
  using Source = pplx::cancellation_token_source;

  std::list<Source>::iterator add() {
    const std::lock_guard lock(mutex_);
    sources_.emplace_front();
    if (stopped_) sources_.front().cancel();
    return sources_.begin();
  }
  void remove(std::list<Source>::iterator at) {
    const std::lock_guard lock(mutex_);
    sources_.erase(at);
  }
  void stop() {
    std::list<Source> all;
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
      all = sources_;  // sources are handles
    }
    for (auto& source : all) source.cancel();
  }
  bool stopped() const {
    const std::lock_guard lock(mutex_);
    return stopped_;
  }

 private:
  mutable std::mutex mutex_;
  std::list<Source> sources_;
  bool stopped_ = false;
};

class Flight {
 public:
  Flight(Flights& flights, std::chrono::milliseconds timeout)
      : flights_(flights), at_(flights.add()), timer_(crossplat::threadpool::shared_instance().service()) {
    timer_.expires_after(timeout);
    timer_.async_wait([source = *at_, late = timed_out_](const boost::system::error_code& error) {
      if (error) return;
      *late = true;
      source.cancel();
    });
  }
  ~Flight() {
    timer_.cancel();
    flights_.remove(at_);
  }
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  pplx::cancellation_token token() const { return at_->get_token(); }
  bool timed_out() const { return *timed_out_; }
  /// The time is only for the headers.
  void arrived() { timer_.cancel(); }
  void cancel() { at_->cancel(); }

 private:
  Flights& flights_;
  std::list<Flights::Source>::iterator at_;
  boost::asio::steady_timer timer_;
  std::shared_ptr<std::atomic<bool>> timed_out_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace

struct Connection::Impl {
  Credentials credentials;
  BearerToken token{credentials};
  http::client::http_client client;
  Flights flights;

  Impl(const Credentials& given, std::chrono::milliseconds idle_timeout)
      : credentials(given), client(address_of(given.server), config_of(given, idle_timeout)) {}

  http::http_request encode(const Request& request) {
    http::http_request out(name_of(request.method));
    out.set_request_uri(web::uri(target_of(request)));
    out.headers().add("Accept", "application/json");
    out.headers().add("User-Agent", "trainyard-controller");
    if (const std::string bearer = token.current(); !bearer.empty()) out.headers().add("Authorization", "Bearer " + bearer);
    // cpprestsdk checks the server's certificate against the Host header, where there is one.
    if (!credentials.tls_server_name.empty()) out.headers().add("Host", credentials.tls_server_name);
    if (!request.body.is_null()) {
      // Invalid UTF-8 can't be JSON; replaced, it is the server that refuses it, with a message.
      out.set_body(request.body.dump(-1, ' ', false, Json::error_handler_t::replace), request.content_type);
    }
    return out;
  }

  /// cpprestsdk hands on the number of an error without its category; OpenSSL's name the part of it that they come from, above all that systems have.
  static bool is_of_openssl(const std::exception& error) {
    const auto* of_http = dynamic_cast<const http::http_exception*>(&error);
    return of_http != nullptr && ERR_GET_LIB(static_cast<unsigned long>(of_http->error_code().value())) != 0;
  }

  /// What to say of a request that got no answer.
  Response failure(const Request& request, const std::exception& error, bool timed_out, std::chrono::milliseconds timeout) const {
    const std::string what = error.what();
    const bool not_sent = what.find("Failed to connect") != std::string::npos || what.find("resolv") != std::string::npos;
    static constexpr const char* kIsItUp = "): is the API server up, and can it be reached from here?";
    std::string why;
    if (flights.stopped()) {
      why = "stopped";
    } else if (timed_out) {
      why = "no answer in " + std::to_string(timeout.count()) + " ms";
    } else if (not_sent) {
      why = "could not connect (" + what + kIsItUp;
    } else if (is_of_openssl(error)) {
      why = what + ": check certificate-authority, the server's name and the client certificate";
    } else if (dynamic_cast<const http::http_exception*>(&error) != nullptr) {
      why = "the connection broke (" + what + kIsItUp;
    } else {
      why = "it cannot be sent (" + what + ")";
    }
    Response response;
    response.not_sent = not_sent && !flights.stopped();
    response.message = std::string(name_of(request.method)) + " " + credentials.server + request.path + ": " + why;
    return response;
  }
};

namespace {

class HttpStream : public Stream {
 public:
  HttpStream(Flights& flights, std::chrono::milliseconds timeout) : flight_(flights, timeout) {}
  ~HttpStream() override { flight_.cancel(); }  // else the server would go on sending

  pplx::cancellation_token token() const { return flight_.token(); }
  bool timed_out() const { return flight_.timed_out(); }
  void failed(Response head) { head_ = std::move(head); }
  void arrived(http::http_response answer) {
    answer_ = std::move(answer);
    if (answer_.status_code() < 200 || answer_.status_code() >= 300) {
      const auto bytes = answer_.extract_vector().get();
      head_ = decode_answer(answer_.status_code(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                            retry_after_of(answer_.headers()));
      return;
    }
    head_.status = answer_.status_code();
    flight_.arrived();
  }

  const Response& head() const override { return head_; }
  const std::string& error() const override { return error_; }

  std::string read() override {
    if (!head_.ok() || ended_) return "";
    try {
      // getn() waits until it has all the bytes that it was asked for: so ask for one, and then for what is there.
      auto buffer = answer_.body().streambuf();
      std::string bytes(1, '\0');
      auto* data = reinterpret_cast<std::uint8_t*>(bytes.data());
      if (buffer.getn(data, 1).get() == 1) {
        const std::size_t more = buffer.in_avail();
        bytes.resize(1 + more);
        data = reinterpret_cast<std::uint8_t*>(bytes.data());
        bytes.resize(1 + (more == 0 ? 0 : buffer.getn(data + 1, more).get()));
        return bytes;
      }
      ended_ = true;
      answer_.content_ready().get();  // throws what ended it, unless it was its end
    } catch (const std::exception& error) {
      ended_ = true;
      error_ = error.what();
    }
    return "";
  }

 private:
  Flight flight_;
  http::http_response answer_;
  Response head_;
  bool ended_ = false;
  std::string error_;
};

}  // namespace

Connection::Connection(const Credentials& credentials, std::chrono::milliseconds idle_timeout) {
  set_up_cpprestsdk();
  check_tls(credentials);
  impl_ = std::make_unique<Impl>(credentials, idle_timeout);
}

Connection::~Connection() { stop(); }

void Connection::stop() { impl_->flights.stop(); }

Response Connection::send(const Request& request, std::chrono::milliseconds timeout) {
  const Flight flight(impl_->flights, timeout);
  try {
    const http::http_response answer = impl_->client.request(impl_->encode(request), flight.token()).get();
    const auto bytes = answer.extract_vector().get();
    return decode_answer(answer.status_code(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                         retry_after_of(answer.headers()));
  } catch (const std::exception& error) {
    return impl_->failure(request, error, flight.timed_out(), timeout);
  }
}

std::unique_ptr<Stream> Connection::open(const Request& request) {
  auto stream = std::make_unique<HttpStream>(impl_->flights, request.timeout);
  try {
    stream->arrived(impl_->client.request(impl_->encode(request), stream->token()).get());
  } catch (const std::exception& error) {
    stream->failed(impl_->failure(request, error, stream->timed_out(), request.timeout));
  }
  return stream;
}

}  // namespace trainyard::kube
