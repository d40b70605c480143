#include "controller/kube/tls.h"

#include <cstdlib>
#include <memory>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

namespace trainyard::kube {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

[[noreturn]] void fail(const std::string& what) {
  const unsigned long code = ERR_get_error();
  const char* why = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  throw CredentialsError("set up TLS: " + what + (why == nullptr ? "" : std::string(": ") + why));
}

Owned<BIO> reader_of(const std::string& pem) { return Owned<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

/// As OpenSSL would find it, had hide_system_authorities() not been called.
const std::string& system_authorities() {
  static const std::string file = [] {
    const char* named = std::getenv(X509_get_default_cert_file_env());
    return std::string(named == nullptr ? X509_get_default_cert_file() : named);
  }();
  return file;
}

void trust_the_system(SSL_CTX* context) {
  SSL_CTX_load_verify_file(context, system_authorities().c_str());
  ERR_clear_error();  // a system without the file may have the folder, where OpenSSL looks by itself
}

void trust_only(SSL_CTX* context, const std::string& authority_pem) {
  X509_STORE* store = X509_STORE_new();
  SSL_CTX_set_cert_store(context, store);  // takes it over, and frees the one with the system's authorities
  const auto bio = reader_of(authority_pem);
  int count = 0;
  while (Owned<X509> certificate{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    if (X509_STORE_add_cert(store, certificate.get()) != 1) fail("a certificate authority cannot be used");
    ++count;
  }
  if (count == 0) fail("the certificate authority is no PEM certificate");
  ERR_clear_error();  // the end of the input counts as an error
}

void show(SSL_CTX* context, const std::string& certificate_pem, const std::string& key_pem) {
  auto bio = reader_of(certificate_pem);
  const Owned<X509> certificate{PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr)};
  if (!certificate || SSL_CTX_use_certificate(context, certificate.get()) != 1)
    fail("the client certificate is no PEM certificate");
  SSL_CTX_clear_chain_certs(context);
  while (Owned<X509> intermediate{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    if (SSL_CTX_add1_chain_cert(context, intermediate.get()) != 1) fail("an intermediate client certificate cannot be used");
  }
  ERR_clear_error();
  bio = reader_of(key_pem);
  const Owned<EVP_PKEY> key{PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr)};
  if (!key) fail("the client key is no PEM key without passphrase");
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    fail("the client key does not belong to the client certificate");
  }
}

}  // namespace

void configure_tls(SSL_CTX* context, const Credentials& credentials) {
  ERR_clear_error();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  if (credentials.authority_pem.empty()) {
    trust_the_system(context);
  } else {
    trust_only(context, credentials.authority_pem);
  }
  if (!credentials.client_certificate_pem.empty()) show(context, credentials.client_certificate_pem, credentials.client_key_pem);
}

void hide_system_authorities() {
  if (system_authorities().empty()) return;  // and remembers them
  ::setenv(X509_get_default_cert_file_env(), "/dev/null", 1);
}

void check_tls(const Credentials& credentials) {
  const Owned<SSL_CTX> context{SSL_CTX_new(TLS_client_method())};
  if (!context) fail("OpenSSL cannot be used");
  configure_tls(context.get(), credentials);
}

}  // namespace trainyard::kube
