#pragma once
// A collector with https on loopback, whose certificate is made for the test.

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace trainyard::observe {

struct Pem {
  std::string certificate, key;
};

/// Signed by itself, for an hour, for `name`: "IP:127.0.0.1" or "DNS:localhost".
inline Pem make_certificate(const std::string& name) {
  const auto text_of = [](const auto& write) {
    const std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new(BIO_s_mem()), &BIO_free_all);
    write(bio.get());
    char* text = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &text);
    return std::string(text, static_cast<std::size_t>(size));
  };
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), &X509_free);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3'600);
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("collector"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), subject);
  X509_set_pubkey(certificate.get(), key.get());
  X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, name.c_str());
  X509_add_ext(certificate.get(), names, -1);
  X509_EXTENSION_free(names);
  if (X509_sign(certificate.get(), key.get(), EVP_sha256()) == 0) throw std::runtime_error("no certificate could be made");
  return {.certificate = text_of([&](BIO* bio) { PEM_write_bio_X509(bio, certificate.get()); }),
          .key = text_of([&](BIO* bio) { PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr); })};
}

/// Answers one request with 200, where the client gets so far.
class TlsCollector {
 public:
  explicit TlsCollector(const Pem& pem) {
    tls_.use_certificate_chain(boost::asio::buffer(pem.certificate));
    tls_.use_private_key(boost::asio::buffer(pem.key), boost::asio::ssl::context::pem);
    thread_ = std::jthread([this] { serve(); });
  }
  unsigned short port() const { return port_; }
  /// The body of its request; empty: there was none. Waits for the client.
  std::string body() {
    thread_.join();
    return body_;
  }

 private:
  void serve() {
    namespace http = boost::beast::http;
    boost::beast::error_code error;
    boost::asio::ssl::stream<boost::asio::ip::tcp::socket> stream(acceptor_.accept(), tls_);
    stream.handshake(boost::asio::ssl::stream_base::server, error);
    if (error) return;
    boost::beast::flat_buffer buffer;
    http::request<http::string_body> request;
    http::read(stream, buffer, request, error);
    if (error) return;
    body_ = request.body();
    http::response<http::string_body> reply(http::status::ok, 11, "{}");
    reply.prepare_payload();
    http::write(stream, reply, error);
  }

  boost::asio::io_context io_;
  boost::asio::ssl::context tls_{boost::asio::ssl::context::tls_server};
  boost::asio::ip::tcp::acceptor acceptor_{io_, {boost::asio::ip::make_address("127.0.0.1"), 0}};
  const unsigned short port_ = acceptor_.local_endpoint().port();
  std::string body_;
  std::jthread thread_;
};

}  // namespace trainyard::observe
