#include "worker/agent/http_server.h"

#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace trainyard::agent {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

/// Answers each request with the address that it came to.
class HttpServerTest : public ::testing::Test {
 protected:
  explicit HttpServerTest(std::size_t most_connections = 2)
      : server_(
            io_, "0.0.0.0", 0,
            [](const HttpRequest& request, const HttpServer::Respond& respond) { respond({.body = request.to_address}); },
            most_connections),
        port_(server_.port()),
        thread_([this] { io_.run(); }) {}
  ~HttpServerTest() override {
    io_.stop();
    thread_.join();
  }
  tcp::socket connect(const std::string& address) {
    tcp::socket socket(client_);
    socket.connect({asio::ip::make_address(address), port_});
    return socket;
  }
  static std::string ask(tcp::socket& socket) {
    http::request<http::empty_body> request(http::verb::get, "/", 11);
    http::write(socket, request);
    boost::beast::flat_buffer buffer;
    http::response<http::string_body> response;
    http::read(socket, buffer, response);
    return response.body();
  }

  asio::io_context io_{1}, client_;
  HttpServer server_;
  const std::uint16_t port_;
  std::thread thread_;
};

TEST_F(HttpServerTest, TellsWhichOfItsAddressesARequestCameTo) {
  tcp::socket one = connect("127.0.0.7"), two = connect("127.0.1.8");
  EXPECT_EQ(ask(one), "127.0.0.7");
  EXPECT_EQ(ask(two), "127.0.1.8");
  EXPECT_EQ(ask(one), "127.0.0.7");
}

TEST_F(HttpServerTest, ClosesTheOldestIdleConnectionWhereThereAreAsManyAsItMayHave) {
  tcp::socket one = connect("127.0.0.1"), two = connect("127.0.0.1");
  ask(one);
  ask(two);
  tcp::socket three = connect("127.0.0.1");
  EXPECT_EQ(ask(three), "127.0.0.1");
  EXPECT_EQ(ask(two), "127.0.0.1");
  EXPECT_THROW(ask(one), boost::system::system_error);
}

}  // namespace
}  // namespace trainyard::agent
