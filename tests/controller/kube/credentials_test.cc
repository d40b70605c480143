#include "controller/kube/credentials.h"

#include <map>

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace trainyard::kube {
namespace {

using testing::TemporaryFolder;

Environment environment_of(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto at = variables.find(name);
    return at == variables.end() ? std::nullopt : std::optional(at->second);
  };
}

std::string config_of(const std::string& server) {
  return "current-context: c\nclusters: [{name: k, cluster: {server: '" + server +
         "'}}]\nusers: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n";
}

TEST(InCluster, UsesTheServiceAccountOfThePod) {
  const TemporaryFolder folder;
  folder.write("ca.crt", "CA");
  folder.write("token", "T\n");
  folder.write("namespace", "trainyard\n");
  const auto credentials = in_cluster_credentials(
      environment_of({{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}, {"KUBERNETES_SERVICE_PORT", "443"}}), folder.path());
  EXPECT_EQ(credentials.server, "https://10.96.0.1:443");
  EXPECT_EQ(credentials.authority_pem, "CA");
  EXPECT_EQ(credentials.default_namespace, "trainyard");
  EXPECT_EQ(BearerToken(credentials).current(), "T");
}

TEST(InCluster, WritesAnIpv6HostInBrackets) {
  const TemporaryFolder folder;
  folder.write("ca.crt", "CA");
  folder.write("token", "T");
  const auto credentials = in_cluster_credentials(
      environment_of({{"KUBERNETES_SERVICE_HOST", "fd00::1"}, {"KUBERNETES_SERVICE_PORT", "443"}}), folder.path());
  EXPECT_EQ(credentials.server, "https://[fd00::1]:443");
}

TEST(InCluster, SaysWhatIsMissing) {
  const TemporaryFolder folder;
  const auto inside = environment_of({{"KUBERNETES_SERVICE_HOST", "h"}, {"KUBERNETES_SERVICE_PORT", "1"}});
  EXPECT_THROW(in_cluster_credentials(environment_of({}), folder.path()), CredentialsError);
  EXPECT_THROW(in_cluster_credentials(inside, folder.path()), CredentialsError);
  folder.write("ca.crt", "CA");
  EXPECT_THROW(in_cluster_credentials(inside, folder.path()), CredentialsError) << "there is no token";
}

TEST(FindCredentials, AFlagGoesBeforeTheEnvironment) {
  const TemporaryFolder folder;
  const auto flag = folder.write("flag", config_of("https://flag")),
             variable = folder.write("variable", config_of("https://variable"));
  const auto environment = environment_of({{"KUBECONFIG", ":" + variable.string()}});
  EXPECT_EQ(find_credentials(flag, environment).server, "https://flag");
  EXPECT_EQ(find_credentials("", environment).server, "https://variable");
}

TEST(FindCredentials, LooksIntoTheHomeFolderLast) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / ".kube");
  folder.write(".kube/config", config_of("https://home"));
  EXPECT_EQ(find_credentials("", environment_of({{"HOME", folder.path()}})).server, "https://home");
}

TEST(FindCredentials, SaysWhereItLooked) {
  try {
    find_credentials("", environment_of({{"HOME", "/nowhere"}}));
    FAIL() << "nothing was thrown";
  } catch (const CredentialsError& error) {
    EXPECT_NE(std::string(error.what()).find("there is no --kubeconfig, no KUBECONFIG"), std::string::npos) << error.what();
  }
}

TEST(BearerToken, FollowsItsFile) {
  const TemporaryFolder folder;
  Credentials credentials;
  credentials.token_file = folder.write("token", "first");
  BearerToken token(credentials, std::chrono::milliseconds(0));
  EXPECT_EQ(token.current(), "first");
  folder.write("token", "second\n");
  EXPECT_EQ(token.current(), "second");
  std::filesystem::remove(credentials.token_file);
  EXPECT_EQ(token.current(), "second") << "while the file is being replaced, the last token is kept";
}

TEST(BearerToken, DoesNotReadTheFileForEveryRequest) {
  const TemporaryFolder folder;
  Credentials credentials;
  credentials.token_file = folder.write("token", "first");
  BearerToken token(credentials, std::chrono::hours(1));
  EXPECT_EQ(token.current(), "first");
  folder.write("token", "second");
  EXPECT_EQ(token.current(), "first");
}

}  // namespace
}  // namespace trainyard::kube
