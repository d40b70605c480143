// What the chart does with what is there already, which rendering it alone cannot show.

#include <gtest/gtest.h>

#include "controller/kube/kubeconfig.h"
#include "controller/kube/rest_kube_api.h"
#include "tests/support/helm.h"

namespace trainyard {
namespace {

struct TheChart : ::testing::Test {
  testing::ApiServer server;
  kube::RestKubeApi api{kube::read_kubeconfig({.files = {server.kubeconfig()}})};

  int helm(const std::vector<std::string>& words) const { return testing::helm(server, words).wait(); }
  std::string key() {
    const auto secret = api.perform({.path = "/api/v1/namespaces/default/secrets/trainyard-controller-key"});
    EXPECT_TRUE(secret.ok()) << secret.message;
    return secret.ok() ? secret.body["data"]["key"].get<std::string>() : "";
  }
};

TEST_F(TheChart, KeepsTheControllersKeyAndTheJobsOverUpgradesAndUninstalls) {
  ASSERT_EQ(helm({"install", "trainyard"}), 0);
  const std::string made = key();
  EXPECT_FALSE(made.empty());
  EXPECT_EQ(helm({"upgrade", "trainyard"}), 0);
  EXPECT_EQ(key(), made);
  EXPECT_EQ(helm({"uninstall", "trainyard"}), 0);
  EXPECT_FALSE(api.perform({.path = "/apis/apps/v1/namespaces/default/deployments/trainyard-controller"}).ok());
  EXPECT_TRUE(api.perform({.path = "/apis/trainyard.dev/v1alpha1/trainingjobs"}).ok()) << "their kind is still there";
  EXPECT_EQ(helm({"install", "trainyard"}), 0);
  EXPECT_EQ(key(), made);
}

TEST_F(TheChart, IsInstalledOnceInACluster) {
  ASSERT_EQ(helm({"install", "trainyard"}), 0);
  auto second =
      testing::helm(server, {"install", "trial", "--namespace=trial", "--create-namespace", "--set=crds.install=false"});
  EXPECT_TRUE(second.line_with("release trainyard in namespace default already runs this cluster's controllers"));
  EXPECT_NE(second.wait(), 0);
}

}  // namespace
}  // namespace trainyard
