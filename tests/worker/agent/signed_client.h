#pragma once
// Requests to an agent as the controller makes them, one connection each, and as an attacker would.

#include <cstdint>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "crds/contract/signature.h"

namespace trainyard::testing {

struct SignedReply {
  unsigned status = 0;
  std::string body;
  bool verifies = false;
};

struct SignedRequest {
  std::string method = "GET";
  std::string target = "/v1/state";
  std::string body;
  std::string key;
  std::string pod_uid = "pod-uid";
  std::string nonce = contract::fresh_nonce();
  std::optional<std::string> signature;  // in place of the right one
};

inline SignedReply send(std::uint16_t port, const SignedRequest& wanted) {
  namespace http = boost::beast::http;
  boost::asio::io_context io;
  boost::beast::tcp_stream stream(io);
  stream.connect(boost::asio::ip::tcp::endpoint(boost::asio::ip::address_v4::loopback(), port));
  http::request<http::string_body> request;
  request.version(11);
  request.method_string(wanted.method);
  request.target(wanted.target);
  request.body() = wanted.body;
  contract::SignedMessage message{
      .method = wanted.method, .target = wanted.target, .pod_uid = wanted.pod_uid, .nonce = wanted.nonce, .body = wanted.body};
  request.set(contract::kNonceHeader, wanted.nonce);
  request.set(contract::kSignatureHeader, wanted.signature.value_or(contract::sign(wanted.key, message)));
  request.prepare_payload();
  http::write(stream, request);
  boost::beast::flat_buffer buffer;
  http::response<http::string_body> response;
  http::read(stream, buffer, response);
  SignedReply reply{.status = response.result_int(), .body = response.body()};
  message.status = static_cast<std::int32_t>(reply.status);
  message.body = reply.body;
  reply.verifies = contract::verify(wanted.key, message, std::string(response[contract::kSignatureHeader]));
  return reply;
}

}  // namespace trainyard::testing
