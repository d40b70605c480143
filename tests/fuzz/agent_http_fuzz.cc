// Whatever bytes somebody sends to an agent's port: HTTP comes back, or nothing, the connection is closed, and the next one is served.

#include <chrono>
#include <csignal>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "tests/fuzz/target.h"
#include "worker/agent/http_server.h"

using namespace trainyard;
using fuzz::expect;
namespace asio = boost::asio;
using asio::ip::tcp;

std::vector<std::string> fuzz::seeds() {
  return {"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
          "PUT /v1/assignment HTTP/1.1\r\nHost: a\r\nTrainyard-Nonce: n\r\nContent-Length: 2\r\n\r\n{}GET /v1/state?after=3 "
          "HTTP/1.1\r\n\r\n",
          "PUT /v1/assignment HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n",
          "GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n"};
}

namespace {

/// libFuzzer's alarm, which comes every few seconds, would interrupt calls that wait: Asio does not repeat those.
class NoAlarm {
 public:
  NoAlarm() {
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, &before_);
  }
  ~NoAlarm() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoAlarm(const NoAlarm&) = delete;
  NoAlarm& operator=(const NoAlarm&) = delete;

 private:
  sigset_t before_{};
};

class Port {
 public:
  Port()
      : server_(io_, "127.0.0.1", 0, [](const agent::HttpRequest& request, const agent::HttpServer::Respond& respond) {
          respond({.body = request.method + " " + request.target + "\n" + request.body, .headers = {}});
        }) {}

  /// All that comes back until the connection is closed, which it must be soon.
  std::string send(std::string_view bytes) {
    tcp::socket socket(io_, tcp::v4());
    // Ports of connections that were closed are not given again for a minute; addresses there are enough.
    const std::uint32_t number = ++connections_;
    socket.bind({asio::ip::address_v4(0x7f000001u + number % 0xfffffeu), 0});
    boost::system::error_code ignored;
    {
      const NoAlarm none;
      socket.connect({asio::ip::address_v4::loopback(), server_.port()});
      asio::write(socket, asio::buffer(bytes.data(), bytes.size()), ignored);
    }
    socket.shutdown(tcp::socket::shutdown_send, ignored);
    std::string answer;
    bool is_closed = false;
    asio::async_read(socket, asio::dynamic_buffer(answer), [&is_closed](auto, std::size_t) { is_closed = true; });
    const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!is_closed && std::chrono::steady_clock::now() < late) io_.run_one_for(std::chrono::seconds(1));
    expect(is_closed, "a connection stays open that its client has closed");
    return answer;
  }

 private:
  asio::io_context io_;
  agent::HttpServer server_;
  std::uint32_t connections_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static Port port;
  const std::string answer = port.send(fuzz::text_of(bytes, size));
  expect(answer.empty() || answer.starts_with("HTTP/1."), "something else than HTTP came back");
  expect(port.send("GET /next HTTP/1.1\r\n\r\n").ends_with("GET /next\n"), "the next request was not served");
  return 0;
}
