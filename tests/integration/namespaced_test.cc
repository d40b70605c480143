// The built trainyard-controller for the jobs of two namespaces, with the chart's Roles there and, in the second half, leave to read the cluster.

#include "tests/integration/built_controller.h"

namespace trainyard {
namespace {

std::string in(const std::string& ns, const std::string& kind) {
  return kind == "pods" ? "/api/v1/namespaces/" + ns + "/pods" : "/apis/trainyard.dev/v1alpha1/namespaces/" + ns + "/" + kind;
}

struct OfTwoNamespaces : BuiltController {
  static void install(const std::vector<std::string>& values) {
    server_ = std::make_unique<testing::ApiServer>();
    kube::RestKubeApi admin(kube::read_kubeconfig({.files = {server_->kubeconfig()}}));
    for (const char* name : {"team-a", "team-b"}) {
      ASSERT_TRUE(
          admin.perform({.method = Method::kPost, .path = "/api/v1/namespaces", .body = {{"metadata", {{"name", name}}}}}).ok());
    }
    std::vector<std::string> words{"install", "trainyard", "--set=watchNamespaces={team-a,team-b}"};
    words.insert(words.end(), values.begin(), values.end());
    ASSERT_EQ(testing::helm(*server_, words).wait(), 0);
  }
  ~OfTwoNamespaces() override {
    for (const char* ns : {"team-a", "team-b"}) {
      for (const char* kind : {"trainingjobs", "pods"}) {
        perform(Method::kDelete, in(ns, kind), {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"gracePeriodSeconds", 0}});
      }
    }
  }
  /// What the API server answers to the controller's account.
  int status_of(Method method, const std::string& path, const Json& body = {}) {
    kube::RestKubeApi account(kube::read_kubeconfig({.files = {account_}}));
    return account.perform({.method = method, .path = path, .query = {{"dryRun", "All"}}, .body = body}).status;
  }
  static Json scheduled(const std::string& name, int workers, int gpus) {
    Json out = job(name, workers, gpus);
    out["spec"]["placement"] = {{"binding", "Scheduler"}};
    return out;
  }
};

struct WithRolesAlone : OfTwoNamespaces {
  static void SetUpTestSuite() { install({}); }
};

TEST_F(WithRolesAlone, MakesGangsInItsNamespacesAndLeavesTheNodesToKubeScheduler) {
  const auto controller = start("one", {"--watch-namespaces=team-a,team-b"});
  ASSERT_TRUE(controller->line_with("acting"));
  for (const char* ns : {"team-a", "team-b"}) {
    apply(scheduled("gang", 2, 8), in(ns, "trainingjobs"));
    const Json pods = eventually(in(ns, "pods"), [](const Json& list) { return list.at("items").size() == 2; });
    for (const auto& pod : pods.at("items")) EXPECT_EQ(pod.at("spec").value("nodeName", ""), "") << pod.dump(1);
  }
  // kube-scheduler's part: once all are bound, the status tells of the nodes.
  for (const int worker : {0, 1}) {
    const std::string pod = "gang-" + std::to_string(worker) + "-1";
    perform(Method::kPost, in("team-a", "pods") + "/" + pod + "/binding",
            {{"apiVersion", "v1"},
             {"kind", "Binding"},
             {"metadata", {{"name", pod}}},
             {"target", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", "node-" + std::to_string(worker + 1)}}}});
  }
  const Json told = eventually(in("team-a", "trainingjobs") + "/gang",
                               [](const Json& object) { return object.value("/status/placement/nodes"_json_pointer, 0) == 2; });
  EXPECT_EQ(condition(told, "Placed", "message"), "2 workers on 2 nodes");
}

TEST_F(WithRolesAlone, TellsAJobWhatItCannotHaveHereAndLeavesThoseOfOthersAlone) {
  const auto controller = start("one", {"--watch-namespaces=team-a,team-b"});
  ASSERT_TRUE(controller->line_with("acting"));
  apply(scheduled("of-others", 1, 1));  // in the namespace default
  apply(job("direct", 1, 1), in("team-a", "trainingjobs"));
  const Json refused = eventually(in("team-a", "trainingjobs") + "/direct",
                                  [](const Json& object) { return condition(object, "Accepted") == "False"; });
  const std::string message = condition(refused, "Accepted", "message");
  EXPECT_NE(message.find("spec.placement.binding: must be Scheduler"), std::string::npos) << message;
  EXPECT_NE(message.find("readCluster"), std::string::npos) << message;
  EXPECT_FALSE(api_.perform({.path = kJobs + "/of-others"}).body.contains("status"));
  EXPECT_TRUE(nodes_of_pods().empty());
}

TEST_F(WithRolesAlone, AndItsAccountMayDoNothingElse) {
  const Json secret = {{"metadata", {{"name", "x"}}}};
  EXPECT_EQ(status_of(Method::kGet, "/api/v1/nodes"), 403);
  EXPECT_EQ(status_of(Method::kGet, "/api/v1/pods"), 403);
  EXPECT_EQ(status_of(Method::kGet, kPods), 403);
  EXPECT_EQ(status_of(Method::kGet, "/apis/trainyard.dev/v1alpha1/trainingjobs"), 403);
  EXPECT_EQ(status_of(Method::kGet, "/apis/trainyard.dev/v1alpha1/trainingqueues"), 403);
  EXPECT_EQ(status_of(Method::kPost, "/api/v1/namespaces/default/secrets", secret), 403);
  EXPECT_EQ(status_of(Method::kGet, "/api/v1/namespaces/team-a/secrets"), 403);
  EXPECT_EQ(status_of(Method::kPost, "/api/v1/namespaces/team-a/secrets", secret), 201);
  EXPECT_EQ(status_of(Method::kGet, in("team-a", "pods")), 200);
}

struct WithLeaveToRead : OfTwoNamespaces {
  static void SetUpTestSuite() { install({"--set=readCluster=true"}); }
};

TEST_F(WithLeaveToRead, PlacesGangsItselfBesideThePodsOfOtherNamespaces) {
  Json other = {{"metadata", {{"name", "of-others"}}},
                {"spec",
                 {{"nodeName", "node-1"},
                  {"automountServiceAccountToken", false},
                  {"containers",
                   {{{"name", "x"}, {"image", "nothing.test/x:1"}, {"resources", {{"limits", {{"nvidia.com/gpu", "8"}}}}}}}}}}};
  perform(Method::kPost, kPods, other);
  const auto controller = start("one", {"--watch-namespaces=team-a,team-b", "--read-cluster"});
  ASSERT_TRUE(controller->line_with("acting"));
  apply(job("fits", 1, 8), in("team-b", "trainingjobs"));
  const Json pods = eventually(in("team-b", "pods"), [](const Json& list) { return list.at("items").size() == 1; });
  EXPECT_EQ(pods.at("items").at(0).at("spec").at("nodeName"), "node-2");
  apply(job("does-not-fit", 1, 8), in("team-a", "trainingjobs"));
  const Json waiting = eventually(in("team-a", "trainingjobs") + "/does-not-fit",
                                  [](const Json& object) { return condition(object, "Placed") == "False"; });
  EXPECT_NE(condition(waiting, "Placed", "message").find("nvidia.com/gpu"), std::string::npos);
}

TEST_F(WithLeaveToRead, LeavesAloneThePodsOfAnotherReleasesJobsAndPlacesItsOwnBesideThem) {
  // The other release runs the jobs of team-b, and sees nothing else. This one could write there too, by its account.
  const Program other(kProgram, {"--controller-key-file=" + key_file_.string(), "--kubeconfig=" + server_->kubeconfig().string(),
                                 "--leader-elect", "--namespace=team-b", "--identity=other", "--metrics-address=127.0.0.1:0",
                                 "--watch-namespaces=team-b"});
  apply(scheduled("theirs", 1, 8), in("team-b", "trainingjobs"));
  eventually(in("team-b", "pods"), [](const Json& list) { return list.at("items").size() == 1; });
  const std::string their_pod = in("team-b", "pods") + "/theirs-0-1";
  perform(Method::kPost, their_pod + "/binding",
          {{"apiVersion", "v1"},
           {"kind", "Binding"},
           {"metadata", {{"name", "theirs-0-1"}}},
           {"target", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", "node-1"}}}});
  perform(Method::kPost, "/apis/scheduling.k8s.io/v1/priorityclasses", {{"metadata", {{"name", "high"}}}, {"value", 1'000}});

  const auto controller = start("one", {"--watch-namespaces=team-a", "--read-cluster"});
  ASSERT_TRUE(controller->line_with("acting"));
  Json urgent = job("urgent", 1, 8), waits = job("waits", 1, 8);
  for (Json* each : {&urgent, &waits}) (*each)["spec"]["priorityClassName"] = "high";
  apply(urgent, in("team-a", "trainingjobs"));
  const Json pods = eventually(in("team-a", "pods"), [](const Json& list) { return list.at("items").size() == 1; });
  EXPECT_EQ(pods.at("items").at(0).at("spec").at("nodeName"), "node-2");
  apply(waits, in("team-a", "trainingjobs"));
  const std::string waiting = in("team-a", "trainingjobs") + "/waits";
  const Json told = eventually(waiting, [](const Json& object) { return condition(object, "Placed") == "False"; });
  EXPECT_NE(condition(told, "Placed", "message").find("job team-b/theirs (8)"), std::string::npos)
      << condition(told, "Placed", "message");
  EXPECT_FALSE(told.contains("/status/queue/estimatedStartTime"_json_pointer)) << "nobody here knows when theirs ends";
  EXPECT_FALSE(api_.perform({.path = their_pod}).body.at("metadata").contains("deletionTimestamp"));

  perform(Method::kDelete, their_pod, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"gracePeriodSeconds", 0}});
  const Json placed = eventually(in("team-a", "pods"), [](const Json& list) { return list.at("items").size() == 2; });
  for (const auto& pod : placed.at("items")) {
    const bool is_waiting = pod.at("metadata").at("name").get<std::string>().starts_with("waits-");
    EXPECT_EQ(pod.at("spec").at("nodeName"), is_waiting ? "node-1" : "node-2");
  }
  api_.perform({.method = Method::kDelete, .path = "/apis/scheduling.k8s.io/v1/priorityclasses/high"});
}

TEST_F(WithLeaveToRead, AndItsAccountWritesNowhereElse) {
  const Json pod = {{"metadata", {{"name", "x"}}}, {"spec", {{"containers", {{{"name", "x"}, {"image", "x"}}}}}}};
  EXPECT_EQ(status_of(Method::kGet, "/api/v1/nodes"), 200);
  EXPECT_EQ(status_of(Method::kGet, "/api/v1/pods"), 200);
  EXPECT_EQ(status_of(Method::kPost, kPods, pod), 403);
  EXPECT_EQ(status_of(Method::kDelete, kPods + "/x"), 403);
  EXPECT_EQ(status_of(Method::kGet, kJobs), 403);
  EXPECT_EQ(status_of(Method::kGet, "/api/v1/secrets"), 403);
}

}  // namespace
}  // namespace trainyard
