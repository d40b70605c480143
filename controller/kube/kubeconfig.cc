#include "controller/kube/kubeconfig.h"

#include <map>
#include <optional>

#include <openssl/evp.h>
#include <yaml-cpp/yaml.h>

namespace trainyard::kube {
namespace {

namespace fs = std::filesystem;

/// A named entry, and the file that it came from.
struct Entry {
  YAML::Node node;
  fs::path file;
};

struct Merged {
  std::map<std::string, Entry> clusters, users, contexts;
  std::string current_context;
  std::string files;  // for messages
};

std::string text_of(const YAML::Node& node, const char* key) {
  if (!node.IsDefined() || !node.IsMap()) return "";
  const YAML::Node value = node[key];
  return value.IsDefined() && value.IsScalar() ? value.Scalar() : "";
}

void merge_entries(const YAML::Node& root, const char* list, const char* inner, const fs::path& file,
                   std::map<std::string, Entry>& into) {
  const YAML::Node entries = root[list];
  if (!entries.IsDefined() || !entries.IsSequence()) return;
  for (const auto& entry : entries) {
    const YAML::Node node = entry.IsMap() ? entry[inner] : YAML::Node();
    into.emplace(text_of(entry, "name"), Entry{node, file});  // emplace: the first wins
  }
}

Merged merge(const KubeconfigSource& source) {
  Merged merged;
  for (const auto& file : source.files) {
    merged.files += (merged.files.empty() ? "" : ":") + file.string();
    if (!source.all_must_exist && !fs::exists(file)) continue;
    YAML::Node root;
    try {
      root = YAML::Load(read_credential_file(file));
    } catch (const YAML::Exception& error) {
      throw CredentialsError("read kubeconfig " + file.string() + ": not YAML: " + error.what());
    }
    if (!root.IsMap()) continue;
    merge_entries(root, "clusters", "cluster", file, merged.clusters);
    merge_entries(root, "users", "user", file, merged.users);
    merge_entries(root, "contexts", "context", file, merged.contexts);
    if (merged.current_context.empty()) merged.current_context = text_of(root, "current-context");
  }
  return merged;
}

std::optional<std::string> from_base64(std::string text) {
  std::erase_if(text, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
  // EVP_DecodeBlock passes over what stands before and after, and takes '=' for a digit.
  const std::size_t end = text.find_last_not_of('=') + 1;
  const bool is_base64 = !text.empty() && text.size() % 4 == 0 && text.size() - end <= 2 &&
                         text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") >= end;
  if (!is_base64) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (length < 0) return std::nullopt;
  // EVP_DecodeBlock counts the padding as bytes.
  out.resize(out.size() - (text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0));
  return out;
}

/// Reads one entry, and keeps what is wrong with it.
class Reader {
 public:
  Reader(const Entry& entry, std::string subject) : entry_(entry), subject_(std::move(subject)) {}

  std::string text(const char* key) const { return text_of(entry_.node, key); }
  bool has(const char* key) const { return entry_.node.IsDefined() && entry_.node.IsMap() && entry_.node[key].IsDefined(); }

  bool flag(const char* key) {
    const std::string value = text(key);
    if (value.empty() || value == "false") return false;
    if (value != "true") problem(std::string(key) + " is `" + value + "`: write true or false");
    return value == "true";
  }

  fs::path path(const char* key) const {
    const std::string value = text(key);
    return value.empty() ? fs::path() : fs::absolute(entry_.file).parent_path() / value;
  }

  /// The bytes of `<key>-data`, or else of the file that `key` names.
  std::string bytes(const std::string& key) {
    if (const std::string data = text((key + "-data").c_str()); !data.empty()) {
      if (auto decoded = from_base64(data)) return *decoded;
      problem(key + "-data is not base64");
      return "";
    }
    if (const fs::path file = path(key.c_str()); !file.empty()) {
      try {
        return read_credential_file(file);
      } catch (const CredentialsError& error) {
        problem(key + ": " + error.what());
      }
    }
    return "";
  }

  void problem(const std::string& what) { problems_ += "\n  " + subject_ + " of " + entry_.file.string() + ": " + what; }
  const std::string& problems() const { return problems_; }

 private:
  const Entry& entry_;
  const std::string subject_;
  std::string problems_;
};

std::string read_cluster(const Entry& entry, const std::string& name, Credentials& out) {
  Reader cluster(entry, "cluster `" + name + "`");
  out.server = cluster.text("server");
  while (out.server.ends_with('/')) out.server.pop_back();
  if (!out.server.starts_with("https://") && !out.server.starts_with("http://")) {
    cluster.problem("server is `" + out.server + "`: write https://HOST:PORT");
  }
  out.authority_pem = cluster.bytes("certificate-authority");
  out.skip_tls_verification = cluster.flag("insecure-skip-tls-verify");
  out.tls_server_name = cluster.text("tls-server-name");
  if (cluster.has("proxy-url"))
    cluster.problem("proxy-url is not supported: reach the API server directly, or by `kubectl proxy`");
  return cluster.problems();
}

std::string read_user(const Entry& entry, const std::string& name, Credentials& out) {
  Reader user(entry, "user `" + name + "`");
  const std::string instead =
      "; use a token, a tokenFile (`kubectl create token` makes one) or a client certificate, or run in the cluster";
  if (user.has("exec")) {
    user.problem("the exec plugin `" + text_of(entry.node["exec"], "command") +
                 "` is not supported: no program is started for credentials" + instead);
  }
  if (user.has("auth-provider")) user.problem("auth-provider plugins are not supported" + instead);
  if (user.has("username") || user.has("password"))
    user.problem("API servers take no user and password since Kubernetes 1.19" + instead);
  for (const char* key : {"as", "as-uid", "as-groups", "as-user-extra"}) {
    if (user.has(key)) user.problem("impersonation (" + std::string(key) + ") is not supported" + instead);
  }
  out.client_certificate_pem = user.bytes("client-certificate");
  out.client_key_pem = user.bytes("client-key");
  if (out.client_certificate_pem.empty() != out.client_key_pem.empty()) {
    user.problem("client-certificate and client-key belong together, and one is missing");
  }
  out.token_file = user.path("tokenFile");
  if (out.token_file.empty()) out.token = user.text("token");  // as client-go: the file wins
  return user.problems();
}

const Entry* find(const std::map<std::string, Entry>& entries, const char* kind, const std::string& name, std::string& problems) {
  const auto at = entries.find(name);
  if (at != entries.end()) return &at->second;
  std::string known;
  for (const auto& [other, entry] : entries) known += (known.empty() ? "" : ", ") + other;
  problems += std::string("\n  there is no ") + kind + " `" + name + "`; there are: " + (known.empty() ? "none" : known);
  return nullptr;
}

}  // namespace

Credentials read_kubeconfig(const KubeconfigSource& source) {
  const Merged merged = merge(source);
  const std::string what = "use kubeconfig " + merged.files + ":";
  const std::string name = source.context.empty() ? merged.current_context : source.context;
  if (name.empty()) throw CredentialsError(what + "\n  no current-context: set one with `kubectl config use-context`");

  Credentials out;
  std::string problems;
  if (const Entry* context = find(merged.contexts, "context", name, problems)) {
    if (const std::string space = text_of(context->node, "namespace"); !space.empty()) out.default_namespace = space;
    const std::string cluster = text_of(context->node, "cluster"), user = text_of(context->node, "user");
    if (const Entry* entry = find(merged.clusters, "cluster", cluster, problems)) problems += read_cluster(*entry, cluster, out);
    if (!user.empty()) {
      if (const Entry* entry = find(merged.users, "user", user, problems)) problems += read_user(*entry, user, out);
    }
  }
  if (!problems.empty()) throw CredentialsError(what + problems);
  return out;
}

}  // namespace trainyard::kube
