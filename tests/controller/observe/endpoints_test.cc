#include "controller/observe/endpoints.h"

#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace trainyard::observe {
namespace {

namespace http = boost::beast::http;
using tcp = boost::asio::ip::tcp;

class Client {
 public:
  explicit Client(unsigned short port) : socket_(context_) { socket_.connect({boost::asio::ip::address_v4::loopback(), port}); }
  http::response<http::string_body> ask(const std::string& target, http::verb method = http::verb::get) {
    http::write(socket_, http::request<http::string_body>(method, target, 11));
    http::response_parser<http::string_body> parser;
    parser.skip(method == http::verb::head);
    http::read(socket_, buffer_, parser);
    return parser.get();
  }

 private:
  boost::asio::io_context context_;
  tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
};

std::string nothing_wrong() { return ""; }
std::string not_synced() { return "pods have not been listed yet"; }
std::string numbers() { return "trainyard_leader 1\n"; }

TEST(Endpoints, TellHealthReadinessAndMetrics) {
  const Endpoints endpoints("127.0.0.1:0", {nothing_wrong, not_synced, numbers});
  Client client(endpoints.port());
  EXPECT_EQ(client.ask("/healthz").result_int(), 200u);
  const auto readiness = client.ask("/readyz");
  EXPECT_EQ(readiness.result_int(), 503u);
  EXPECT_EQ(readiness.body(), "pods have not been listed yet\n");
  const auto metrics = client.ask("/metrics?x=1");
  EXPECT_EQ(metrics.body(), "trainyard_leader 1\n");
  EXPECT_EQ(metrics[http::field::content_type], "text/plain; version=0.0.4; charset=utf-8");
}

TEST(Endpoints, RefuseWhatTheyDoNotHave) {
  const Endpoints endpoints("127.0.0.1:0", {nothing_wrong, nothing_wrong, numbers});
  Client client(endpoints.port());
  EXPECT_EQ(client.ask("/").result_int(), 404u);
  EXPECT_EQ(client.ask("/healthz", http::verb::put).result_int(), 405u);
  EXPECT_EQ(client.ask("/healthz", http::verb::head).result_int(), 200u);
}

TEST(Endpoints, ListenOnAllAddressesWhenNoneIsGiven) {
  const Endpoints endpoints(":0", {nothing_wrong, nothing_wrong, numbers});
  EXPECT_EQ(Client(endpoints.port()).ask("/healthz").result_int(), 200u) << "IPv4 too";
}

TEST(Endpoints, SayWhyTheyCannotListen) {
  const Endpoints first("127.0.0.1:0", {nothing_wrong, nothing_wrong, numbers});
  const std::string taken = "127.0.0.1:" + std::to_string(first.port());
  const std::vector<std::string> addresses = {taken, "8080", "localhost:1", "127.0.0.1:99999", ":"};
  for (const auto& address : addresses) {
    try {
      const Endpoints second(address, {nothing_wrong, nothing_wrong, numbers});
      ADD_FAILURE() << address << " was listened on";
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find("listen on `" + address + "`"), std::string::npos) << error.what();
    }
  }
}

TEST(Endpoints, EndWithConnectionsOpen) {
  auto endpoints = std::make_unique<Endpoints>("127.0.0.1:0", EndpointAnswers{nothing_wrong, nothing_wrong, numbers});
  Client client(endpoints->port());
  client.ask("/healthz");
  endpoints.reset();
  EXPECT_ANY_THROW(client.ask("/healthz"));
}

}  // namespace
}  // namespace trainyard::observe
