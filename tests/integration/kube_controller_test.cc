// The built trainyard-controller against a real etcd and kube-apiserver, with the permissions that the chart gives it and no others.
// There are no kubelets: nodes are objects, and pods stay where they were put.

#include <algorithm>
#include <csignal>
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
namespace {

using kube::Json;
using kube::Method;
using testing::Program;

const std::string kProgram = std::string(test::kBinDir) + "/trainyard-controller";
const std::string kJobs = "/apis/trainyard.dev/v1alpha1/namespaces/default/trainingjobs";
const std::string kPods = "/api/v1/namespaces/default/pods";
const std::string kClaims = "/api/v1/namespaces/default/persistentvolumeclaims";
const std::string kLease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/trainyard-controller";

Json node(const std::string& name) {
  return {{"metadata", {{"name", name}, {"labels", {{"kubernetes.io/hostname", name}, {"rack", "rack-1"}}}}}};
}
Json node_status() {
  const Json amounts = {{"cpu", "8"}, {"memory", "32Gi"}, {"pods", "110"}, {"nvidia.com/gpu", "8"}};
  return {{"status",
           {{"allocatable", amounts},
            {"capacity", amounts},
            {"conditions", {{{"type", "Ready"}, {"status", "True"}, {"reason", "KubeletReady"}}}}}}};
}
Json job(const std::string& name, int workers, int gpus) {
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
  static void SetUpTestSuite() {
    server_ = std::make_unique<testing::ApiServer>();
    ASSERT_EQ(testing::helm(*server_, {"install", "trainyard"}).wait(), 0);
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

  std::unique_ptr<Program> start(const std::string& identity, const std::vector<std::string>& more = {}) {
    std::vector<std::string> flags{"--controller-key-file=" + key_file_.string(),
                                   "--kubeconfig=" + account_.string(),
                                   "--leader-elect",
                                   "--identity=" + identity,
                                   "--metrics-address=127.0.0.1:0",
                                   "--topology-levels=rack=rack,host=kubernetes.io/hostname",
                                   "--log-level=debug"};
    flags.insert(flags.end(), more.begin(), more.end());
    return std::make_unique<Program>(kProgram, flags);
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
  void apply(const Json& manifest) {
    kube::Response response;
    const auto end = std::chrono::steady_clock::now() + testing::kPatience;
    do {
      response = api_.perform({.method = Method::kPost, .path = kJobs, .body = manifest});
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

  static std::unique_ptr<testing::ApiServer> server_;
  testing::TemporaryFolder folder_;
  std::filesystem::path key_file_, account_;
  kube::RestKubeApi api_;
};
std::unique_ptr<testing::ApiServer> BuiltController::server_;

TEST_F(BuiltController, PlacesAGangWholeAndSaysWhyAnotherHasNoRoom) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  apply(job("fits", 2, 8));
  const Json placed = eventually(kJobs + "/fits", [](const Json& object) { return condition(object, "Placed") == "True"; });
  EXPECT_EQ(placed.at("status").at("generation"), 1);
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  EXPECT_EQ(nodes_of_pods(), (std::vector<std::string>{"node-1", "node-2"}));

  const auto applied_at = std::chrono::steady_clock::now();
  apply(job("does-not-fit", 1, 8));
  const Json waiting =
      eventually(kJobs + "/does-not-fit", [](const Json& object) { return condition(object, "Placed") == "False"; });
  EXPECT_LT(std::chrono::steady_clock::now() - applied_at, std::chrono::seconds(5));
  EXPECT_NE(condition(waiting, "Placed", "message").find("nvidia.com/gpu"), std::string::npos) << waiting.at("status").dump(1);
  EXPECT_EQ(nodes_of_pods().size(), 2u);
}

TEST_F(BuiltController, HoldsAQueueToItsQuotaAndTellsWhatIsUsed) {
  const std::string queues = "/apis/trainyard.dev/v1alpha1/trainingqueues";
  Json queue = crd_test::json_from(YAML::Load(R"(
    apiVersion: trainyard.dev/v1alpha1
    kind: TrainingQueue
    metadata: {name: research}
    spec:
      namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}
      flavors: [{resources: [{name: nvidia.com/gpu, nominal: 8}]}]
  )"));
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  Json first = job("first", 1, 4), second = job("second", 1, 8);
  first["spec"]["queue"] = second["spec"]["queue"] = "research";
  apply(first);
  eventually(kJobs + "/first", [](const Json& object) { return condition(object, "Accepted") == "False"; });
  perform(Method::kPost, queues, queue);
  eventually(kJobs + "/first", [](const Json& object) { return condition(object, "Placed") == "True"; });
  apply(second);
  const Json waiting = eventually(kJobs + "/second", [](const Json& object) { return condition(object, "Admitted") == "False"; });
  EXPECT_EQ(condition(waiting, "Admitted", "message"),
            "TrainingQueue research: on any node: nvidia.com/gpu needs 8, 4 free (nominal 8, used 4)");
  const Json told = eventually(queues + "/research", [](const Json& object) {
    return object.value("/status/running"_json_pointer, 0) == 1 && object.value("/status/pending"_json_pointer, 0) == 1;
  });
  EXPECT_EQ(told.value("/status/summary"_json_pointer, ""), "nvidia.com/gpu 4/8");
  EXPECT_EQ(condition(told, "Active"), "True");
  perform(Method::kDelete, queues + "/research", Json());
}

TEST_F(BuiltController, TellsARefusalThatOnlyTheApiServerMakesInItsWords) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  Json misnamed = job("misnamed", 1, 0), misspelt = job("misspelt", 1, 0);
  misnamed["spec"]["workers"]["template"]["spec"]["volumes"] = {{{"name", "Not_A_Name"}, {"emptyDir", Json::object()}}};
  misspelt["spec"]["workers"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Always";
  apply(misnamed);
  apply(misspelt);
  const auto is_refused = [](const Json& object) { return condition(object, "Accepted", "reason") == "TemplateRefused"; };
  const std::string of_name = condition(eventually(kJobs + "/misnamed", is_refused), "Accepted", "message");
  EXPECT_NE(of_name.find("spec.volumes[0].name: Invalid value: \"Not_A_Name\""), std::string::npos) << of_name;
  const std::string of_field = condition(eventually(kJobs + "/misspelt", is_refused), "Accepted", "message");
  EXPECT_NE(of_field.find("unknown field \"spec.containers[0].imagePullPolicies\""), std::string::npos) << of_field;
  EXPECT_TRUE(nodes_of_pods().empty());
}

TEST_F(BuiltController, PlacesAGangOnceItsClaimIsBound) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  Json mounts = job("mounts", 2, 1);
  mounts["spec"]["workers"]["template"]["spec"]["volumes"] = {
      {{"name", "checkpoints"}, {"persistentVolumeClaim", {{"claimName", "checkpoints"}}}}};
  apply(mounts);
  const auto is_for = [](const char* reason) {
    return [reason](const Json& object) { return condition(object, "Placed", "reason") == reason; };
  };
  const Json missing = eventually(kJobs + "/mounts", is_for("ClaimMissing"));
  EXPECT_NE(condition(missing, "Placed", "message").find("default/checkpoints"), std::string::npos);
  perform(Method::kPost, kClaims,
          {{"metadata", {{"name", "checkpoints"}}},
           {"spec",
            {{"accessModes", {"ReadWriteMany"}},
             {"storageClassName", ""},
             {"volumeName", "a-volume"},
             {"resources", {{"requests", {{"storage", "1Gi"}}}}}}}});
  eventually(kJobs + "/mounts", is_for("ClaimUnbound"));
  EXPECT_TRUE(nodes_of_pods().empty());
  perform(Method::kPost, "/api/v1/persistentvolumes",
          {{"metadata", {{"name", "a-volume"}}},
           {"spec",
            {{"accessModes", {"ReadWriteMany"}},
             {"capacity", {{"storage", "1Gi"}}},
             {"local", {{"path", "/checkpoints"}}},
             {"nodeAffinity",
              {{"required",
                {{"nodeSelectorTerms",
                  {{{"matchExpressions",
                     {{{"key", "kubernetes.io/hostname"}, {"operator", "In"}, {"values", {"node-2"}}}}}}}}}}}}}}});
  perform(Method::kPatch, kClaims + "/checkpoints/status", {{"status", {{"phase", "Bound"}}}});
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  EXPECT_EQ(nodes_of_pods(), (std::vector<std::string>{"node-2", "node-2"}));
}

TEST_F(BuiltController, PinsThePodsOfBindingSchedulerAndLeavesTheirBindingToIt) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  Json pinned = job("pinned", 2, 8);
  pinned["spec"]["placement"] = {{"binding", "Scheduler"}};
  pinned["spec"]["workers"]["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"] = {{{"matchExpressions", {{{"key", "rack"}, {"operator", "In"}, {"values", {"rack-1"}}}}}}};
  apply(pinned);
  const Json pods = eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  std::vector<std::string> nodes;
  for (const auto& pod : pods.at("items")) {
    EXPECT_EQ(pod.at("spec").value("nodeName", ""), "");
    const Json terms =
        pod.at("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"_json_pointer);
    ASSERT_EQ(terms.size(), 1u);
    EXPECT_EQ(terms[0].at("matchExpressions").size(), 1u) << "the template's own";
    const Json field = terms[0].at("matchFields").at(0);
    EXPECT_EQ(field.at("key"), "metadata.name");
    EXPECT_EQ(field.at("operator"), "In");
    nodes.push_back(field.at("values").at(0));
  }
  std::sort(nodes.begin(), nodes.end());
  EXPECT_EQ(nodes, (std::vector<std::string>{"node-1", "node-2"})) << "room is counted for pods that are not bound yet";
}

TEST_F(BuiltController, CountsWhatAdmissionAddsToItsPods) {
  perform(Method::kPost, "/apis/node.k8s.io/v1/runtimeclasses",
          {{"metadata", {{"name", "boxed"}}}, {"handler", "boxed"}, {"overhead", {{"podFixed", {{"cpu", "5"}}}}}});
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  Json boxed = job("boxed", 2, 1);
  boxed["spec"]["workers"]["template"]["spec"]["runtimeClassName"] = "boxed";
  apply(boxed);
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  EXPECT_EQ(nodes_of_pods(), (std::vector<std::string>{"node-1", "node-2"})) << "a node of 8 cpu holds one pod of 1 and 5";
}

TEST_F(BuiltController, RunsAnyProgramByItsPodsAloneAndGivesItAServiceForItsNames) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  Json custom = job("7b", 2, 1);  // a Service could not have this name
  for (const char* part : {"model", "data", "training"}) custom["spec"].erase(part);
  custom["spec"]["engine"] = "Custom";
  apply(custom);
  const Json pods = eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
  const Json& first = pods.at("items").at(0).at("spec");
  const std::string service = first.at("subdomain");
  EXPECT_EQ(first.at("hostname"), "7b-0-1");
  EXPECT_EQ(first.at("containers").at(0).at("env").at(0), (Json{{"name", "MASTER_ADDR"}, {"value", "7b-0-1." + service}}));
  const Json made = api_.perform({.path = "/api/v1/namespaces/default/services/" + service}).body;
  EXPECT_EQ(made.at("spec").value("clusterIP", ""), "None") << made.dump(1);
  const auto tell = [&](const std::string& pod, const char* phase, const Json& state) {
    perform(Method::kPatch, kPods + "/" + pod + "/status",
            {{"status", {{"phase", phase}, {"containerStatuses", {{{"name", "worker"}, {"state", state}}}}}}});
  };
  for (const char* pod : {"7b-0-1", "7b-1-1"}) tell(pod, "Running", {{"running", Json::object()}});
  eventually(kJobs + "/7b", [](const Json& object) { return condition(object, "Running") == "True"; });
  for (const char* pod : {"7b-0-1", "7b-1-1"}) tell(pod, "Succeeded", {{"terminated", {{"exitCode", 0}}}});
  eventually(kJobs + "/7b", [](const Json& object) { return condition(object, "Complete") == "True"; });
}

TEST_F(BuiltController, EndsCleanlyAndIsFollowedByTheOneThatStoodBy) {
  const auto first = start("one");
  ASSERT_TRUE(first->line_with("acting"));
  const auto second = start("two");
  ASSERT_TRUE(second->line_with("another controller leads"));
  first->signal(SIGTERM);
  EXPECT_EQ(first->wait(), 0);
  ASSERT_TRUE(second->line_with("acting"));
  EXPECT_EQ(kube::read_lease(api_.perform({.path = kLease}).body).holder, "two");
  apply(job("later", 1, 1));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 1; });
}

TEST_F(BuiltController, ThatIsKilledIsFollowedByTheOneThatStoodBy) {
  const auto first = start("one");
  ASSERT_TRUE(first->line_with("acting"));
  const auto second = start("two");
  ASSERT_TRUE(second->line_with("another controller leads"));
  apply(job("before", 1, 1));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 1; });
  const auto killed_at = std::chrono::steady_clock::now();
  first->signal(SIGKILL);
  ASSERT_TRUE(second->line_with("acting"));
  RecordProperty("takeover_ms", static_cast<int>((std::chrono::steady_clock::now() - killed_at) / std::chrono::milliseconds(1)));
  apply(job("later", 1, 1));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
}

TEST_F(BuiltController, GoesOnAfterAnOutageOfTheApiServer) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  server_->freeze();
  ASSERT_TRUE(controller->line_with("no longer leading")) << "it can't renew, so it stops before somebody else may act";
  server_->thaw();
  ASSERT_TRUE(controller->line_with("acting"));
  apply(job("afterwards", 2, 4));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 2; });
}

TEST_F(BuiltController, GivesASnapshotOnWhichItsDecisionsAreMadeAgain) {
  const auto controller = start("one", {"--debug-address=127.0.0.1:0"});
  const auto line = controller->line_with("serving /debug/snapshot");
  ASSERT_TRUE(line);
  ASSERT_TRUE(controller->line_with("acting"));
  apply(job("large", 4, 8));  // no room
  apply(job("small", 1, 1));
  eventually(kPods, [](const Json& list) { return list.at("items").size() == 1; });
  kube::RestKubeApi debug({.server = "http://127.0.0.1:" + std::to_string(Json::parse(*line).at("port").get<int>())});
  Json snapshot = debug.perform({.path = "/debug/snapshot"}).body;
  ASSERT_EQ(snapshot.at("jobs").size(), 2u);
  const auto replayed = [&] { return Program(kProgram, {"replay", folder_.write("snapshot", snapshot.dump()).string()}).wait(); };
  EXPECT_EQ(replayed(), 0);
  snapshot["nodes"] = Json::array();
  EXPECT_EQ(replayed(), 1) << "another cluster, other decisions";
  EXPECT_EQ(debug.perform({.path = "/debug"}).status, 404);
}

TEST_F(BuiltController, SaysWhatIsWrongWithItsFlagsAndEnds) {
  Program controller(kProgram, {"--controller-key-file=" + folder_.write("short", "abc").string(), "--topology-levels=rack,=x",
                                "--debug-address=:8081", "--kubeconfig=" + server_->kubeconfig().string()});
  const auto line = controller.line_with("cannot go on");
  ASSERT_TRUE(line);
  for (const char* part :
       {"`:8081` is not on the loopback", "`rack` is not NAME=LABEL", "`=x` is not NAME=LABEL", "at least 32 are needed"}) {
    EXPECT_NE(line->find(part), std::string::npos) << *line;
  }
  EXPECT_EQ(controller.wait(), 1);
}

}  // namespace
}  // namespace trainyard
