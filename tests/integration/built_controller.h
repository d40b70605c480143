#pragma once
// The built trainyard-controller against a real etcd and kube-apiserver, with the permissions that the chart gives it and no others.
// There are no kubelets: nodes are objects, and pods stay where they were put.

#include <algorithm>
#include <csignal>
#include <map>
#include <memory>

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include "controller/kube/kubeconfig.h"
#include "controller/kube/lease.h"
#include "controller/kube/rest_kube_api.h"
#include "tests/crds/yaml.h"
#include "tests/paths.h"
#include "tests/support/api_server.h"
#include "tests/support/helm.h"
#include "tests/support/program.h"
#include "tests/support/temporary_folder.h"

namespace trainyard {

using kube::Json;
using kube::Method;
using testing::Program;

inline const std::string kProgram = std::string(test::kBinDir) + "/trainyard-controller";
inline const std::string kJobs = "/apis/trainyard.dev/v1alpha1/namespaces/default/trainingjobs";
inline const std::string kPods = "/api/v1/namespaces/default/pods";
inline const std::string kClaims = "/api/v1/namespaces/default/persistentvolumeclaims";
inline const std::string kLease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/trainyard-controller";

inline Json node(const std::string& name) {
  return {{"metadata", {{"name", name}, {"labels", {{"kubernetes.io/hostname", name}, {"rack", "rack-1"}}}}}};
}
inline Json node_status() {
  const Json amounts = {{"cpu", "8"}, {"memory", "32Gi"}, {"pods", "110"}, {"nvidia.com/gpu", "8"}};
  return {{"status",
           {{"allocatable", amounts},
            {"capacity", amounts},
            {"conditions", {{{"type", "Ready"}, {"status", "True"}, {"reason", "KubeletReady"}}}}}}};
}
inline Json job(const std::string& name, int workers, int gpus) {
  const Json container = {{"name", "worker"}, {"image", "nothing.test/worker:1"}, {"resources", {{"requests", {{"cpu", "1"}}}}}};
  Json spec = crd_test::json_from(YAML::Load(R"(
    model: {size: {layers: 2, hiddenSize: 64, heads: 2, feedForwardSize: 128, vocabularySize: 256}}
    data: {train: [{path: /data/train}], tokenizer: {kind: Bytes}, sequenceLength: 64}
    training: {steps: 10, globalBatchSize: 128, optimizer: {learningRate: 1.0e-3}}
  )"));
  spec["workers"] = {{"count", workers}, {"gpusPerWorker", gpus}, {"template", {{"spec", {{"containers", {container}}}}}}};
  return {{"apiVersion", "trainyard.dev/v1alpha1"}, {"kind", "TrainingJob"}, {"metadata", {{"name", name}}}, {"spec", spec}};
}

class BuiltController : public ::testing::Test {
 protected:
  /// One server for all tests: it takes seconds to start.
  static void SetUpTestSuite() { install({}); }
  /// With these values of the chart, and flags of kube-apiserver. As in OpenShift, who makes pods that hold their owner has to be allowed to.
  static void install(const std::vector<std::string>& values, std::vector<std::string> flags = {}) {
    flags.emplace_back("--enable-admission-plugins=OwnerReferencesPermissionEnforcement");
    server_ = std::make_unique<testing::ApiServer>(flags);
    std::vector<std::string> words{"install", "trainyard"};
    words.insert(words.end(), values.begin(), values.end());
    ASSERT_EQ(testing::helm(*server_, words).wait(), 0);
  }
  static void TearDownTestSuite() { server_.reset(); }

  BuiltController() : api_(kube::read_kubeconfig({.files = {server_->kubeconfig()}})) {
    key_file_ = folder_.write("key", std::string(64, 'k'));
    account_ = folder_.write("kubeconfig", kubeconfig_of_account());
    if (api_.perform({.path = "/api/v1/nodes/node-2"}).ok()) return;
    for (const std::string name : {"node-1", "node-2"}) {
      perform(Method::kPost, "/api/v1/nodes", node(name));
      perform(Method::kPatch, "/api/v1/nodes/" + name + "/status", node_status());
      // What the node controller does once a node is ready; admission put the taint there.
      perform(Method::kPatch, "/api/v1/nodes/" + name, {{"spec", {{"taints", nullptr}}}});
    }
  }
  ~BuiltController() override {
    for (const auto& path : {kJobs, kPods}) {
      perform(Method::kDelete, path, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"gracePeriodSeconds", 0}});
    }
    api_.perform({.method = Method::kDelete, .path = kLease});  // of a controller that was killed
  }

  std::unique_ptr<Program> start(const std::string& identity, const std::vector<std::string>& more = {},
                                 const std::map<std::string, std::string>& environment = {}) {
    std::vector<std::string> flags{"--controller-key-file=" + key_file_.string(),
                                   "--kubeconfig=" + account_.string(),
                                   "--leader-elect",
                                   "--identity=" + identity,
                                   "--metrics-address=127.0.0.1:0",
                                   "--topology-levels=rack=rack,host=kubernetes.io/hostname",
                                   "--log-level=debug"};
    flags.insert(flags.end(), more.begin(), more.end());
    return std::make_unique<Program>(kProgram, flags, environment);
  }
  /// The administrator's, with a token of the chart's service account in the place of his certificate.
  std::string kubeconfig_of_account() {
    const auto answer = perform(Method::kPost, "/api/v1/namespaces/default/serviceaccounts/trainyard/token",
                                {{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}, {"spec", Json::object()}});
    YAML::Node config = YAML::LoadFile(server_->kubeconfig().string());
    config["users"][0]["user"] = YAML::Node(YAML::NodeType::Map);
    config["users"][0]["user"]["token"] = answer.body.at("status").at("token").get<std::string>();
    return YAML::Dump(config);
  }
  kube::Response perform(Method method, const std::string& path, const Json& body) {
    const char* type = method == Method::kPatch ? "application/merge-patch+json" : "application/json";
    auto response = api_.perform({.method = method, .path = path, .body = body, .content_type = type});
    EXPECT_TRUE(response.ok()) << path << ": " << response.message;
    return response;
  }
  /// Creates the job, once the server serves the kind.
  void apply(const Json& manifest, const std::string& jobs = kJobs) {
    kube::Response response;
    const auto end = std::chrono::steady_clock::now() + testing::kPatience;
    do {
      response = api_.perform({.method = Method::kPost, .path = jobs, .body = manifest});
    } while (response.is_not_found() && std::chrono::steady_clock::now() < end);
    ASSERT_TRUE(response.ok()) << response.message;
  }
  /// Asks for the object until it is as wanted; the last answer.
  Json eventually(const std::string& path, const std::function<bool(const Json&)>& wanted) {
    const auto end = std::chrono::steady_clock::now() + testing::kPatience;
    Json object;
    do {
      object = api_.perform({.path = path}).body;
    } while (!wanted(object) && std::chrono::steady_clock::now() < end);
    EXPECT_TRUE(wanted(object)) << object.dump(1);
    return object;
  }
  static std::string condition(const Json& object, const std::string& type, const char* field = "status") {
    if (!object.contains("status") || !object.at("status").contains("conditions")) return "";
    for (const auto& item : object.at("status").at("conditions")) {
      if (item.at("type") == type) return item.value(field, "");
    }
    return "";
  }
  std::vector<std::string> nodes_of_pods() {
    std::vector<std::string> nodes;
    const Json pods = api_.perform({.path = kPods}).body;
    for (const auto& pod : pods.at("items")) nodes.push_back(pod.at("spec").value("nodeName", ""));
    std::sort(nodes.begin(), nodes.end());
    return nodes;
  }

  inline static std::unique_ptr<testing::ApiServer> server_;
  testing::TemporaryFolder folder_;
  std::filesystem::path key_file_, account_;
  kube::RestKubeApi api_;
};

}  // namespace trainyard
