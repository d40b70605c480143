#pragma once
// How the API server is reached, and as whom: from kubeconfig files (kubeconfig.h) or from the pod that this program runs in.

#include <chrono>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

namespace trainyard::kube {

/// Values only; certificates and keys as PEM text. One of client certificate, token and token file is enough, none is anonymous.
struct Credentials {
  std::string server;         // https://10.0.0.1:6443, no slash at the end
  std::string authority_pem;  // the only authorities that are believed; empty: those of the system
  bool skip_tls_verification = false;
  std::string tls_server_name;  // the name in the server's certificate, when it is not the host of `server`
  std::string client_certificate_pem;
  std::string client_key_pem;
  std::string token;
  std::filesystem::path token_file;  // read again and again, since tokens rotate
  std::string default_namespace = "default";
};

/// No usable credentials. Says which file, which entry, what is wrong and what to do; all problems at once, one a line.
class CredentialsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An environment variable, or nothing; tests hand in their own.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

/// Where a pod finds its service account.
inline constexpr const char* kServiceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The service account of the pod that this runs in: KUBERNETES_SERVICE_HOST and _PORT, ca.crt, token, namespace.
/// Throws CredentialsError.
Credentials in_cluster_credentials(const Environment& environment, const std::filesystem::path& folder = kServiceAccountFolder);

/// In the order of kubectl and controller-runtime: `kubeconfig` (of a flag) if not empty; the files of KUBECONFIG; in-cluster, where
/// KUBERNETES_SERVICE_HOST is set; ~/.kube/config. Throws CredentialsError.
Credentials find_credentials(const std::filesystem::path& kubeconfig, const Environment& environment);

/// The bearer token of credentials, read again from its file when the last reading is older than `max_age`: a kubelet rotates the
/// token of a pod at 80% of its life. A file that cannot be read keeps the last token. Any thread.
class BearerToken {
 public:
  explicit BearerToken(const Credentials& credentials, std::chrono::milliseconds max_age = std::chrono::seconds(10));
  /// Empty: send no Authorization header.
  std::string current();

 private:
  const std::filesystem::path file_;
  const std::chrono::milliseconds max_age_;
  std::mutex mutex_;
  std::string token_;
  std::optional<std::chrono::steady_clock::time_point> read_at_;
};

/// A file's text. Throws CredentialsError naming the file and the cause.
std::string read_credential_file(const std::filesystem::path& file);

}  // namespace trainyard::kube
