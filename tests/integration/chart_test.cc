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

// What people complain of most in the systems that train on Kubernetes, as far as it is about installation and rights; all others are in
// tests/simulate/complaint_story_test.cc. The numbers are issues of those systems' trackers.
struct Complaint : TheChart {
  void SetUp() override { ASSERT_EQ(helm({"install", "trainyard"}), 0); }
  int kubectl(std::vector<std::string> words) const {
    words.push_back("--kubeconfig=" + server.kubeconfig().string());
    return testing::Program(test::kSourceDir + std::string("/.tools/kubernetes/bin/kubectl"), words).wait();
  }
  bool controller_may(const std::string& verb, const std::string& group, const std::string& resource,
                      const std::string& part = "", const std::string& name_space = "") {
    kube::Json asked = {{"verb", verb}, {"group", group}, {"resource", resource}, {"subresource", part}};
    if (!name_space.empty()) asked["namespace"] = name_space;
    const auto answer = api.perform({.method = kube::Method::kPost,
                                     .path = "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                                     .body = {{"apiVersion", "authorization.k8s.io/v1"},
                                              {"kind", "SubjectAccessReview"},
                                              {"spec",
                                               {{"user", "system:serviceaccount:default:trainyard"},
                                                {"groups", {"system:serviceaccounts", "system:authenticated"}},
                                                {"resourceAttributes", asked}}}}});
    EXPECT_TRUE(answer.ok()) << answer.message;
    return answer.ok() && answer.body.at("status").at("allowed").get<bool>();
  }
};

// jobset 536, kueue 1273: an apply of the CRD is refused as too long; kueue 13036: for seconds a webhook does not serve yet, and all is refused
TEST_F(Complaint, AnInstallationNeedsAnotherWayThanApplyAndWaitsForWebhooks) {
  const std::string crds = test::kSourceDir + std::string("/crds/");
  for (const char* kind : {"trainingjob", "trainingqueue"}) EXPECT_EQ(kubectl({"apply", "-f", crds + kind + ".yaml"}), 0) << kind;
  for (const char* kind : {"validatingwebhookconfigurations", "mutatingwebhookconfigurations"}) {
    const auto found = api.perform({.path = std::string("/apis/admissionregistration.k8s.io/v1/") + kind});
    ASSERT_TRUE(found.ok()) << found.message;
    EXPECT_TRUE(found.body.at("items").empty()) << kind;
  }
  // No controller runs, nor anything else that belongs to the chart.
  EXPECT_EQ(kubectl({"wait", "--for=condition=Established", "crd/trainingjobs.trainyard.dev", "--timeout=60s"}), 0);
  EXPECT_EQ(kubectl({"apply", "-f", crds + "examples/dictionary-tiny.yaml"}), 0);
  EXPECT_NE(kubectl({"patch", "tj", "dictionary-tiny", "--type=merge", R"(-p={"spec":{"workers":{"count":0}}})"}), 0)
      << "what is wrong is refused all the same";
}

// kubeflow/trainer 1814, kserve 3724: the operator may read, or even delete, every Secret of the cluster
TEST_F(Complaint, TheOperatorMayReadEverySecret) {
  EXPECT_TRUE(controller_may("create", "", "secrets")) << "the key of a job; else this test asks in vain";
  for (const char* verb : {"get", "list", "watch", "update", "patch", "delete", "deletecollection"}) {
    for (const char* name_space : {"", "default", "kube-system"}) {
      EXPECT_FALSE(controller_may(verb, "", "secrets", "", name_space)) << verb << " in `" << name_space << "`";
    }
  }
  for (const char* part : {"exec", "attach", "portforward", "ephemeralcontainers"}) {
    EXPECT_FALSE(controller_may("create", "", "pods", part)) << part;
  }
  for (const char* verb : {"create", "update", "patch", "bind", "escalate"}) {
    EXPECT_FALSE(controller_may(verb, "rbac.authorization.k8s.io", "clusterroles")) << verb;
  }
  EXPECT_FALSE(controller_may("create", "", "serviceaccounts", "token"));
  EXPECT_FALSE(controller_may("update", "trainyard.dev", "trainingjobs")) << "the spec is its user's";
}

}  // namespace
}  // namespace trainyard
