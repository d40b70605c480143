#include "controller/kube/kubeconfig.h"

#include <filesystem>
#include <fstream>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace trainyard::kube {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

constexpr const char* kTwoContexts = R"(
apiVersion: v1
kind: Config
current-context: home
clusters:
- name: home
  cluster: {server: "https://10.0.0.1:6443/", certificate-authority-data: QVVUSE9SSVRZ, tls-server-name: api.home}
- name: away
  cluster: {server: "https://10.9.9.9:6443", insecure-skip-tls-verify: true}
users:
- name: me
  user: {token: secret}
contexts:
- name: home
  context: {cluster: home, user: me, namespace: research}
- name: away
  context: {cluster: away, user: me}
)";

/// A file with one context that uses this cluster and this user.
std::string config_with(const std::string& cluster, const std::string& user) {
  return "current-context: c\nclusters: [{name: k, cluster: " + cluster + "}]\nusers: [{name: u, user: " + user +
         "}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n";
}

std::string error_of(const KubeconfigSource& source) {
  try {
    read_kubeconfig(source);
  } catch (const CredentialsError& error) {
    return error.what();
  }
  return "";
}

TEST(Kubeconfig, GivesTheCurrentContextsClusterAndUser) {
  const TemporaryFolder folder;
  const auto credentials = read_kubeconfig({.files = {folder.write("config", kTwoContexts)}});
  EXPECT_EQ(credentials.server, "https://10.0.0.1:6443");
  EXPECT_EQ(credentials.authority_pem, "AUTHORITY");
  EXPECT_EQ(credentials.tls_server_name, "api.home");
  EXPECT_EQ(credentials.token, "secret");
  EXPECT_EQ(credentials.default_namespace, "research");
  EXPECT_FALSE(credentials.skip_tls_verification);
}

TEST(Kubeconfig, GivesAnotherContextWhenAskedTo) {
  const TemporaryFolder folder;
  const auto credentials = read_kubeconfig({.files = {folder.write("config", kTwoContexts)}, .context = "away"});
  EXPECT_EQ(credentials.server, "https://10.9.9.9:6443");
  EXPECT_TRUE(credentials.skip_tls_verification);
  EXPECT_EQ(credentials.default_namespace, "default");
}

TEST(Kubeconfig, OfSeveralFilesTheFirstEntryOfANameWins) {
  const TemporaryFolder folder;
  const auto first = folder.write("first", config_with("{server: 'https://first'}", "{token: one}"));
  const auto second = folder.write("second", config_with("{server: 'https://second'}", "{token: two}") + "extra: 1\n");
  const auto credentials = read_kubeconfig({.files = {folder.path() / "missing", first, second}});
  EXPECT_EQ(credentials.server, "https://first");
  EXPECT_EQ(credentials.token, "one");
}

TEST(Kubeconfig, AContextMayUseEntriesOfAnotherFile) {
  const TemporaryFolder folder;
  const auto contexts = folder.write("contexts", "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n");
  const auto entries =
      folder.write("entries", "clusters: [{name: k, cluster: {server: 'https://k'}}]\nusers: [{name: u, user: {token: t}}]\n");
  EXPECT_EQ(read_kubeconfig({.files = {contexts, entries}}).server, "https://k");
}

TEST(Kubeconfig, PathsStartAtTheFilesFolder) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "keys");
  folder.write("keys/ca.crt", "CA");
  folder.write("keys/me.crt", "CERT");
  folder.write("keys/me.key", "KEY");
  const auto file =
      folder.write("config", config_with("{server: 'https://k', certificate-authority: keys/ca.crt}",
                                         "{client-certificate: keys/me.crt, client-key: keys/me.key, tokenFile: keys/t}"));
  const auto credentials = read_kubeconfig({.files = {file}});
  EXPECT_EQ(credentials.authority_pem, "CA");
  EXPECT_EQ(credentials.client_certificate_pem, "CERT");
  EXPECT_EQ(credentials.client_key_pem, "KEY");
  EXPECT_EQ(credentials.token_file, folder.path() / "keys/t");
}

TEST(Kubeconfig, InlineDataGoesBeforeAPath) {
  const TemporaryFolder folder;
  const auto file = folder.write(
      "config", config_with("{server: 'https://k', certificate-authority-data: REFUQQ==, certificate-authority: nowhere}", "{}"));
  EXPECT_EQ(read_kubeconfig({.files = {file}}).authority_pem, "DATA");
}

TEST(Kubeconfig, ATokenFileGoesBeforeAToken) {
  const TemporaryFolder folder;
  const auto file = folder.write("config", config_with("{server: 'https://k'}", "{token: old, tokenFile: /t}"));
  const auto credentials = read_kubeconfig({.files = {file}});
  EXPECT_EQ(credentials.token, "");
  EXPECT_EQ(credentials.token_file, "/t");
}

struct Refused {
  const char* what;
  std::string cluster, user, says;
};
class RefusedKubeconfig : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedKubeconfig, SaysWhyAndWhatToDo) {
  const TemporaryFolder folder;
  const auto file = folder.write("config", config_with(GetParam().cluster, GetParam().user));
  const std::string error = error_of({.files = {file}});
  EXPECT_NE(error.find(GetParam().says), std::string::npos) << error;
  EXPECT_NE(error.find(file.string()), std::string::npos) << error;
}

const std::string kGood = "{server: 'https://k'}";
INSTANTIATE_TEST_SUITE_P(
    Table, RefusedKubeconfig,
    ::testing::Values(
        Refused{"exec", kGood, "{exec: {command: aws}}", "the exec plugin `aws` is not supported"},
        Refused{"exec_alternative", kGood, "{exec: {command: aws}}", "kubectl create token"},
        Refused{"auth_provider", kGood, "{auth-provider: {name: gcp}}", "auth-provider plugins are not supported"},
        Refused{"password", kGood, "{username: a, password: b}", "no user and password"},
        Refused{"impersonation", kGood, "{token: t, as: root}", "impersonation (as)"},
        Refused{"proxy", "{server: 'https://k', proxy-url: 'http://p'}", "{}", "proxy-url is not supported"},
        Refused{"no_server", "{}", "{}", "server is ``: write https://HOST:PORT"},
        Refused{"half_certificate", kGood, "{client-certificate-data: QQ==}", "belong together"},
        Refused{"bad_base64", "{server: 'https://k', certificate-authority-data: '!!!!'}", "{}",
                "certificate-authority-data is not base64"},
        Refused{"base64_with_an_end", "{server: 'https://k', certificate-authority-data: 'REFU----'}", "{}", "is not base64"},
        Refused{"base64_of_nothing", "{server: 'https://k', certificate-authority-data: '===='}", "{}", "is not base64"},
        Refused{"base64_with_a_tab", "{server: 'https://k', certificate-authority-data: \"\\tUQQ==REF\"}", "{}", "is not base64"},
        Refused{"missing_file", "{server: 'https://k', certificate-authority: nowhere.crt}", "{}", "No such file or directory"},
        Refused{"bad_flag", "{server: 'https://k', insecure-skip-tls-verify: maybe}", "{}", "`maybe`: write true or false"}),
    [](const auto& row) { return row.param.what; });

TEST(Kubeconfig, ListsAllProblemsAtOnce) {
  const TemporaryFolder folder;
  const auto file = folder.write("config", config_with("{server: nonsense, proxy-url: p}", "{exec: {command: x}, as: y}"));
  const std::string error = error_of({.files = {file}});
  for (const char* part : {"`nonsense`", "proxy-url", "exec plugin", "impersonation"}) {
    EXPECT_NE(error.find(part), std::string::npos) << part << " in " << error;
  }
}

TEST(Kubeconfig, NamesWhatThereIsWhenAnEntryIsMissing) {
  const TemporaryFolder folder;
  const auto file = folder.write("config", kTwoContexts);
  EXPECT_NE(error_of({.files = {file}, .context = "hom"}).find("there is no context `hom`; there are: away, home"),
            std::string::npos);
}

TEST(Kubeconfig, SaysWhenThereIsNoCurrentContext) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of({.files = {folder.write("config", "clusters: []\n")}}).find("no current-context"), std::string::npos);
}

TEST(Kubeconfig, SaysWhichFileIsNotYaml) {
  const TemporaryFolder folder;
  const auto file = folder.write("config", "a: [");
  EXPECT_NE(error_of({.files = {file}}).find(file.string() + ": not YAML"), std::string::npos);
}

TEST(Kubeconfig, AFileThatWasAskedForMustExist) {
  const TemporaryFolder folder;
  const std::string error = error_of({.files = {folder.path() / "missing"}, .all_must_exist = true});
  EXPECT_NE(error.find("No such file or directory"), std::string::npos) << error;
}

}  // namespace
}  // namespace trainyard::kube
