// The built trainyard-controller, for the whole cluster.

#include "tests/integration/built_controller.h"

namespace trainyard {
namespace {

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
  EXPECT_EQ(
      condition(waiting, "Admitted", "message"),
      "TrainingQueue research: on any node: nvidia.com/gpu needs 8, 4 free (nominal 8, used 4); when it starts nobody can know: "
      "default/first comes before it, has no lifecycle.activeDeadlineSeconds and tells no time left.");
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
  Json question = job("question", 1, 1);
  question["spec"]["dryRun"] = true;
  apply(question);
  const Json answered =
      eventually(kJobs + "/question", [](const Json& object) { return object.contains("/status/dryRun"_json_pointer); });
  EXPECT_EQ(answered.at("status").at("dryRun").at("admitted"), true);
  EXPECT_GT(answered.at("status").at("dryRun").at("memoryPerRank").at("total"), 0);
  kube::RestKubeApi debug({.server = "http://127.0.0.1:" + std::to_string(Json::parse(*line).at("port").get<int>())});
  Json snapshot = debug.perform({.path = "/debug/snapshot"}).body;
  ASSERT_EQ(snapshot.at("jobs").size(), 3u);
  const auto replayed = [&] { return Program(kProgram, {"replay", folder_.write("snapshot", snapshot.dump()).string()}).wait(); };
  EXPECT_EQ(replayed(), 0);
  snapshot["nodes"] = Json::array();
  EXPECT_EQ(replayed(), 1) << "another cluster, other decisions";
  EXPECT_EQ(debug.perform({.path = "/debug"}).status, 404);
}

TEST_F(BuiltController, SaysWhatIsWrongWithItsFlagsAndEnds) {
  Program controller(
      kProgram,
      {"--controller-key-file=" + folder_.write("short", "abc").string(), "--topology-levels=rack,=x",
       "--watch-namespaces=team-a,Team/b", "--debug-address=:8081", "--kubeconfig=" + server_->kubeconfig().string()},
      {{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"}, {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}});
  const auto line = controller.line_with("cannot go on");
  ASSERT_TRUE(line);
  for (const char* part :
       {"`Team/b` is no name of a namespace", "`:8081` is not on the loopback", "`rack` is not NAME=LABEL",
        "`=x` is not NAME=LABEL", "at least 32 are needed", "`collector:4317` is no URL", "`grpc` is not http/json"}) {
    EXPECT_NE(line->find(part), std::string::npos) << *line;
  }
  EXPECT_EQ(controller.wait(), 1);
}

}  // namespace
}  // namespace trainyard
