#include "controller/kube/credentials.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "controller/kube/kubeconfig.h"

namespace trainyard::kube {
namespace {

std::string without_space_at_the_end(std::string text) {
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  return text;
}

std::vector<std::filesystem::path> split_by_colon(const std::string& list) {
  std::vector<std::filesystem::path> files;
  std::istringstream names(list);
  for (std::string name; std::getline(names, name, ':');) {
    if (!name.empty()) files.emplace_back(name);
  }
  return files;
}

std::optional<std::string> try_read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) return std::nullopt;
  return text.str();
}

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
}

std::string read_credential_file(const std::filesystem::path& file) {
  errno = 0;
  if (auto text = try_read(file)) return *text;
  throw CredentialsError("read " + file.string() + ": " + (errno != 0 ? std::strerror(errno) : "empty or not a file"));
}

Credentials in_cluster_credentials(const Environment& environment, const std::filesystem::path& folder) {
  const auto host = environment("KUBERNETES_SERVICE_HOST"), port = environment("KUBERNETES_SERVICE_PORT");
  if (!host || !port) {
    throw CredentialsError(
        "use the pod's service account: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set: outside "
        "of a cluster, give --kubeconfig or set KUBECONFIG");
  }
  Credentials credentials;
  const bool is_ipv6 = host->find(':') != std::string::npos;
  credentials.server = "https://" + (is_ipv6 ? "[" + *host + "]" : *host) + ":" + *port;
  credentials.authority_pem = read_credential_file(folder / "ca.crt");
  credentials.token_file = folder / "token";
  read_credential_file(credentials.token_file);  // a missing token is better heard of now than as a 401 later
  if (const auto text = try_read(folder / "namespace")) credentials.default_namespace = without_space_at_the_end(*text);
  return credentials;
}

Credentials find_credentials(const std::filesystem::path& kubeconfig, const Environment& environment) {
  if (!kubeconfig.empty()) return read_kubeconfig({.files = {kubeconfig}, .all_must_exist = true});
  if (const auto list = environment("KUBECONFIG")) return read_kubeconfig({.files = split_by_colon(*list)});
  if (environment("KUBERNETES_SERVICE_HOST")) return in_cluster_credentials(environment);
  if (const auto home = environment("HOME")) {
    const auto file = std::filesystem::path(*home) / ".kube" / "config";
    if (std::filesystem::exists(file)) return read_kubeconfig({.files = {file}, .all_must_exist = true});
  }
  throw CredentialsError(
      "find a cluster: there is no --kubeconfig, no KUBECONFIG, no ~/.kube/config, and this is no pod of a cluster "
      "(KUBERNETES_SERVICE_HOST is not set): give one of them");
}

BearerToken::BearerToken(const Credentials& credentials, std::chrono::milliseconds max_age)
    : file_(credentials.token_file), max_age_(max_age), token_(credentials.token) {}

std::string BearerToken::current() {
  if (file_.empty()) return token_;
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (!read_at_ || now - *read_at_ >= max_age_) {
    if (const auto text = try_read(file_)) token_ = without_space_at_the_end(*text);
    read_at_ = now;
  }
  return token_;
}

}  // namespace trainyard::kube
