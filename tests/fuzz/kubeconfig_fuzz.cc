// A kubeconfig: credentials for a server that has a URL, or CredentialsError. Files that it names are looked for below a folder that is
// empty.

#include <filesystem>
#include <fstream>

#include "controller/kube/kubeconfig.h"
#include "tests/fuzz/target.h"
#include "tests/support/temporary_folder.h"

using namespace trainyard::kube;
using trainyard::fuzz::expect;

std::vector<std::string> trainyard::fuzz::seeds() {
  return {
      R"(apiVersion: v1
kind: Config
current-context: home
clusters:
- name: home
  cluster: {server: "https://10.0.0.1:6443/", certificate-authority-data: QVVUSE9SSVRZ, tls-server-name: api.home}
users:
- name: me
  user: {client-certificate-data: QQ==, client-key-data: QUI=}
contexts:
- name: home
  context: {cluster: home, user: me, namespace: research}
)",
      R"({"current-context":"c","clusters":[{"name":"k","cluster":{"server":"http://k","insecure-skip-tls-verify":true,"proxy-url":"p"}}],)"
      R"("users":[{"name":"u","user":{"token":"t","tokenFile":"f","exec":{"command":"aws"},"as":"root","username":"a"}}],)"
      R"("contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}]})",
      "current-context: c\nclusters: [&k {name: k, cluster: {server: 'https://k'}}, *k]\nusers: []\ncontexts: [{name: c, "
      "context: "
      "{cluster: k}}]\n"};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const trainyard::testing::TemporaryFolder folder;
  const std::string text(trainyard::fuzz::text_of(bytes, size));
  // What is read from there never ends.
  for (const char* place : {"/dev/", "/proc/", "/sys/", ".."}) {
    if (text.find(place) != std::string::npos) return 0;
  }
  const auto file = folder.write("config", text);
  Credentials credentials;
  try {
    credentials = read_kubeconfig({.files = {file}});
  } catch (const CredentialsError& error) {
    expect(std::string(error.what()).find(file.string()) != std::string::npos, "an error does not say of which file");
    return 0;
  }
  expect(credentials.server.starts_with("https://") || credentials.server.starts_with("http://"), "a server has no URL");
  expect(!credentials.server.ends_with('/'), "a URL ends with a slash");
  expect(credentials.client_certificate_pem.empty() == credentials.client_key_pem.empty(), "a certificate has no key");
  return 0;
}
