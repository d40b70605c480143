#pragma once
// The credentials' certificates, put into OpenSSL's hands.

#include "controller/kube/credentials.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace trainyard::kube {

/// TLS 1.2 or later; only the credentials' authorities are believed (the system's, where there are none); the client certificate, if
/// any, is shown. Throws CredentialsError where a certificate or key is no PEM, or they do not belong together.
void configure_tls(ssl_ctx_st* context, const Credentials& credentials);

/// cpprestsdk loads the system's authorities into the context of each new connection: that is a hundred certificates and 30 ms of CPU,
/// and a gang needs sixteen connections at once. From now on it finds none (OpenSSL's variable SSL_CERT_FILE names an empty file), and
/// configure_tls() loads them where the credentials name no authority. To be called before other threads read the environment.
void hide_system_authorities();

/// Tries that on a context of its own, so that a bad certificate is reported at the start and not at the first request.
void check_tls(const Credentials& credentials);

}  // namespace trainyard::kube
