#include "controller/kube/tls.h"

#include <cstdlib>
#include <filesystem>
#include <memory>

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "controller/kube/connection.h"

namespace trainyard::kube {
namespace {

using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

int num_authorities(SSL_CTX* context) { return sk_X509_OBJECT_num(X509_STORE_get0_objects(SSL_CTX_get_cert_store(context))); }
Context context_as_cpprestsdk_makes_it() {
  Context context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  SSL_CTX_set_default_verify_paths(context.get());
  return context;
}

TEST(Tls, LoadsTheSystemsAuthoritiesOnlyForCredentialsThatNameNone) {
  const Connection connection({.server = "https://127.0.0.1:1"}, std::chrono::seconds(1));
  const Context context = context_as_cpprestsdk_makes_it();
  EXPECT_EQ(num_authorities(context.get()), 0) << "each connection would take 30 ms of CPU";
  if (!std::filesystem::exists(X509_get_default_cert_file())) GTEST_SKIP() << "this system has no file of authorities";
  configure_tls(context.get(), {.server = "https://127.0.0.1:1"});
  EXPECT_GT(num_authorities(context.get()), 10);
}

}  // namespace
}  // namespace trainyard::kube
