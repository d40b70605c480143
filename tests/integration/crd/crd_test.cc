// crds/trainingjob.yaml on a real API server: it says to every manifest what validate.cc says, and kubectl reads well.

#include <algorithm>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "crds/contract/validate.h"
#include "tests/crds/cases.h"
#include "tests/integration/crd/asked_server.h"

namespace trainyard::crd_test {
namespace {

using namespace trainyard::contract;
using namespace std::chrono_literals;

const std::string kJobs = "/apis/trainyard.dev/v1alpha1/namespaces/default/trainingjobs";
const std::string kQueues = "/apis/trainyard.dev/v1alpha1/trainingqueues";
const std::string kDryRun = "?dryRun=All&fieldValidation=Strict";
const std::string kSchemaOfServer = "/openapi/v3/apis/trainyard.dev/v1alpha1";

/// The problems that an answer lists, one a line, sorted.
std::vector<Problem> problems_of(const Answer& answer) {
  std::vector<Problem> out;
  if (answer.status < 300) return out;
  for (const auto& cause : answer.body.value("details", Json::object()).value("causes", Json::array())) {
    const std::string field = cause.value("field", "");
    if (field == "<nil>") continue;  // "some validation rules were not checked"
    out.push_back({field, cause.value("message", "")});
  }
  if (out.empty()) out.push_back({"", answer.body.dump()});
  return out;
}

/// "" where each of `expected` is the end of one problem of its field, and no problem is left over.
std::string difference(std::vector<Problem> found, const std::vector<ExpectedProblem>& expected) {
  std::string out;
  for (const auto& wanted : expected) {
    const auto at = std::find_if(found.begin(), found.end(), [&](const Problem& problem) {
      return problem.field == wanted.field && problem.message.ends_with(wanted.server);
    });
    if (at == found.end()) {
      out += "does not say: " + wanted.field + ": " + wanted.server + "\n";
    } else {
      found.erase(at);
    }
  }
  for (const auto& problem : found) out += "also says: " + problem.field + ": " + problem.message + "\n";
  return out;
}

class Crd : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = std::make_unique<AskedServer>();
    applied_ = server_->kubectl("apply -f crds/trainingjob.yaml");  // client-side
    queues_applied_ = server_->kubectl("apply -f crds/trainingqueue.yaml");
    const auto is_served = [] {
      return server_->ask({"GET", kJobs, {}}).status == 200 && server_->ask({"GET", kQueues, {}}).status == 200 &&
             server_->ask({"GET", kSchemaOfServer, {}}).status == 200;
    };
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (applied_.exit_code == 0 && queues_applied_.exit_code == 0 && !is_served()) {
      if (std::chrono::steady_clock::now() > deadline)
        throw std::runtime_error("the API server does not serve TrainingJobs after 20 s");
      std::this_thread::sleep_for(50ms);
    }
  }
  static void TearDownTestSuite() { server_.reset(); }

  void SetUp() override {
    ASSERT_EQ(applied_.exit_code, 0) << applied_.output;
    ASSERT_EQ(queues_applied_.exit_code, 0) << queues_applied_.output;
  }

  static inline std::unique_ptr<AskedServer> server_;
  static inline Finished applied_, queues_applied_;
};

TEST_F(Crd, IsAppliedFromTheClientSideTwice) {
  EXPECT_EQ(applied_.output, "customresourcedefinition.apiextensions.k8s.io/trainingjobs.trainyard.dev created\n");
  EXPECT_EQ(server_->kubectl("apply -f crds/trainingjob.yaml").output,
            "customresourcedefinition.apiextensions.k8s.io/trainingjobs.trainyard.dev unchanged\n");
}

TEST_F(Crd, AnswersEveryCaseAsValidateDoes) {
  const auto cases = load_cases();
  std::vector<Request> requests;
  requests.reserve(cases.size());
  for (const Case& one : cases) requests.push_back({"POST", kJobs + kDryRun, one.manifest});
  const auto answers = server_->ask(requests);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(answers[i].status, cases[i].problems.empty() ? 201 : 422) << cases[i].name << answers[i].body;
    EXPECT_EQ(difference(problems_of(answers[i]), cases[i].problems), "") << cases[i].name;
  }
}

TEST_F(Crd, GivesTheDefaultsThatTheTypesHave) {
  for (const Case& one : load_cases()) {
    if (!one.problems.empty()) continue;
    const Answer answer = server_->ask({"POST", kJobs + kDryRun, one.manifest});
    const auto stored = decode<TrainingJobSpec>(answer.body.at("spec"), "spec", UnknownFields::kRefuse);
    EXPECT_EQ(to_text(stored.problems), "") << one.name;
    EXPECT_EQ(encode(stored.value), encode(read_manifest(one.manifest).spec)) << one.name;
  }
}

TEST_F(Crd, LetsOnlySomeFieldsChange) {
  Json base = load_base();
  base["metadata"]["name"] = "changes";
  ASSERT_EQ(server_->ask({"POST", kJobs, base}).status, 201);
  const auto changes = load_changes();
  const std::string path = kJobs + "/changes" + kDryRun;
  std::vector<Request> requests;
  requests.reserve(changes.size());
  for (const Change& change : changes) {
    requests.push_back({"PATCH", path, change.patch, "application/merge-patch+json"});
  }
  const auto answers = server_->ask(requests);
  for (std::size_t i = 0; i < changes.size(); ++i) {
    std::vector<ExpectedProblem> expected;
    const std::string& message = changes[i].message;
    for (const auto& field : changes[i].immutable) expected.push_back({field, message, message});
    EXPECT_EQ(answers[i].status, expected.empty() ? 200 : 422) << changes[i].name << answers[i].body;
    EXPECT_EQ(difference(problems_of(answers[i]), expected), "") << changes[i].name;
  }
}

TEST_F(Crd, LetsTheQueueOfASuspendedJobChange) {
  Json base = load_base();
  base["metadata"]["name"] = "suspended";
  base["spec"]["suspend"] = true;
  ASSERT_EQ(server_->ask({"POST", kJobs, base}).status, 201);
  const auto change = [](const Json& patch) {
    return server_->ask({"PATCH", kJobs + "/suspended" + kDryRun, patch, "application/merge-patch+json"}).status;
  };
  EXPECT_EQ(change({{"spec", {{"queue", "a"}}}}), 200);
  EXPECT_EQ(change({{"spec", {{"queue", "a"}, {"suspend", false}}}}), 422);
}

TEST_F(Crd, OfQueuesRefusesWhatMakesNoSense) {
  const Json base =
      Json::parse(R"({"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingQueue", "metadata": {"name": "base"}, "spec": {
      "parent": "org", "flavors": [{"resources": [{"name": "cpu", "nominal": "1500m", "borrowingLimit": 4, "lendingLimit": "0"}]}]}})");
  const struct {
    const char *patch, *field, *message;  // no field: accepted
  } cases[] = {
      {"{}", "", ""},
      {R"({"spec": {"parent": null, "flavors": null}})", "", ""},
      {R"({"spec": {"stop": "Drain", "weight": 3, "namespaceSelector": {"matchLabels": {"team": "a"}}}})", "", ""},
      {R"({"spec": {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]}}})", "", ""},
      {R"({"spec": {"flavors": [{"resources": [{"name": "memory", "nominal": "1.5Ti"}]}]}})", "", ""},
      {R"({"spec": {"parent": "base"}})", "spec.parent", "must be another queue"},
      {R"({"spec": {"parent": null}})", "spec.flavors",
       "must have no borrowingLimit and no lendingLimit without a parent, since there is nobody to borrow from or lend to"},
      {R"({"spec": {"flavors": [{"resources": [{"name": "cpu", "nominal": 1}]}, {"nodeLabels": {}, "resources": [{"name": "memory", "nominal": 1}]}]}})",
       "spec.flavors", "must have different nodeLabels each; give one flavor all its resources"},
      {R"({"spec": {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In"}]}}})",
       "spec.namespaceSelector.matchExpressions[0].values",
       "must have at least one value with In and NotIn, and none with Exists and DoesNotExist"},
      {R"({"spec": {"weight": 0}})", "spec.weight", "should be greater than or equal to 1"},
      {R"({"spec": {"flavors": [{"resources": [{"name": "cpu", "nominal": -1}]}]}})", "spec.flavors[0].resources[0].nominal",
       "should be greater than or equal to 0"},
      {R"({"spec": {"flavors": [{"resources": []}]}})", "spec.flavors[0].resources", "should have at least 1 items"},
  };
  for (const auto& one : cases) {
    Json manifest = base;
    manifest.merge_patch(Json::parse(one.patch));
    const Answer answer = server_->ask({"POST", kQueues + kDryRun, manifest});
    const bool is_accepted = one.field[0] == '\0';
    EXPECT_EQ(answer.status, is_accepted ? 201 : 422) << one.patch << answer.body;
    const std::vector<ExpectedProblem> expected{{one.field, one.message, one.message}};
    EXPECT_EQ(difference(problems_of(answer), is_accepted ? std::vector<ExpectedProblem>{} : expected), "") << one.patch;
  }
  Json negative = base;
  negative["spec"]["flavors"][0]["resources"][0]["nominal"] = "-1";
  EXPECT_EQ(server_->ask({"POST", kQueues + kDryRun, negative}).status, 422);
  const Answer stored = server_->ask({"POST", kQueues + kDryRun, base});
  EXPECT_EQ(stored.body.at("spec").at("weight"), 1);
  EXPECT_EQ(stored.body.at("spec").at("stop"), "None");
  EXPECT_FALSE(stored.body.at("spec").at("flavors").at(0).contains("nodeLabels")) << "kubectl apply would see a change in it";
}

/// What kubectl says of objects of this project, a line each.
std::vector<std::string> lines_of_ours(const std::string& output) {
  std::istringstream all(output);
  std::vector<std::string> out;
  for (std::string line; std::getline(all, line);) {
    if (line.find(".trainyard.dev/") != std::string::npos) out.push_back(line);
  }
  return out;
}

TEST_F(Crd, HasNothingToChangeInExamplesThatAreAppliedAgain) {
  const std::string apply = "apply -f crds/examples --namespace again";
  ASSERT_EQ(server_->kubectl("create namespace again").exit_code, 0);
  const auto first = lines_of_ours(server_->kubectl(apply).output);
  ASSERT_GT(first.size(), 6u);
  for (const auto& line : first) EXPECT_TRUE(line.ends_with(" created")) << line;
  const auto second = lines_of_ours(server_->kubectl(apply).output);
  EXPECT_EQ(second.size(), first.size());
  for (const auto& line : second) EXPECT_TRUE(line.ends_with(" unchanged")) << line;
}

TEST_F(Crd, TakesAManifestOnceMoreOfWhichAnOlderSchemaKeptTheDefaults) {
  Json job = load_base();
  job["metadata"]["name"] = "older";
  const std::string apply = "apply -f - <<'JSON'\n" + job.dump() + "\nJSON\n";
  ASSERT_EQ(server_->kubectl(apply).exit_code, 0);
  const Json kept = {{{"path", "/data/train"}, {"weight", 1.0}, {"format", "Text"}}};
  ASSERT_EQ(
      server_->ask({"PATCH", kJobs + "/older", {{"spec", {{"data", {{"train", kept}}}}}}, "application/merge-patch+json"}).status,
      200);
  const Finished again = server_->kubectl(apply);
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_TRUE(again.output.ends_with("trainingjob.trainyard.dev/older configured\n")) << again.output;
  EXPECT_TRUE(server_->kubectl(apply).output.ends_with("trainingjob.trainyard.dev/older unchanged\n"));
}

TEST_F(Crd, AcceptsTheExamples) {
  const Finished applied = server_->kubectl("apply --dry-run=server -f crds/examples");
  EXPECT_EQ(applied.exit_code, 0) << applied.output;
  EXPECT_NE(applied.output.find("trainingjob.trainyard.dev/dictionary-tiny created (server dry run)"), std::string::npos)
      << applied.output;
}

TEST_F(Crd, RefusesAnUnknownFieldAndKeepsThoseOfThePodTemplate) {
  Json manifest = load_base();
  manifest["spec"]["workers"]["template"]["spec"]["anything"] = 1;
  const Answer kept = server_->ask({"POST", kJobs + kDryRun, manifest});
  EXPECT_EQ(kept.body.at("spec").at("workers").at("template").at("spec").at("anything"), 1);
  manifest["spec"]["workers"]["cuont"] = 3;
  const Answer refused = server_->ask({"POST", kJobs + kDryRun, manifest});
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.at("message").get<std::string>().find("unknown field \"spec.workers.cuont\""), std::string::npos);
  // kubectl asks for that by itself.
  const Finished applied = server_->kubectl("apply -f - <<'JSON'\n" + manifest.dump() + "\nJSON\n");
  EXPECT_EQ(applied.exit_code, 1);
  EXPECT_NE(applied.output.find("unknown field \"spec.workers.cuont\""), std::string::npos) << applied.output;
}

/// Adds the fields at and below `schema` that have no prose.
void collect_silent(const Json& schema, const std::string& path, std::vector<std::string>& out) {
  if (schema.value("description", "").empty()) out.push_back(path);
  const Json properties = schema.value("properties", Json::object());
  for (const auto& item : properties.items()) collect_silent(item.value(), path + "." + item.key(), out);
  if (schema.contains("items") && schema["items"].contains("properties")) collect_silent(schema["items"], path, out);
}

TEST_F(Crd, ExplainsEveryField) {
  const Json schemas = server_->ask({"GET", kSchemaOfServer, {}}).body.at("components").at("schemas");
  const Json& job = schemas.at("dev.trainyard.v1alpha1.TrainingJob").at("properties");
  std::vector<std::string> silent;
  for (const char* part : {"spec", "status"}) collect_silent(job.at(part), part, silent);
  EXPECT_EQ(silent, std::vector<std::string>{});
  // What kubectl makes of it.
  const std::string parallelism = server_->kubectl("explain tj.spec.parallelism --recursive").output;
  for (const char* field :
       {"tensor\t<integer>", "zero\t<Object>", "offload\t<Object>", "parameters\t<boolean>", "enum: World, Node"}) {
    EXPECT_NE(parallelism.find(field), std::string::npos) << field << " is not in\n" << parallelism;
  }
  EXPECT_NE(server_->kubectl("explain tj.spec.parallelism.zero.stage").output.find("as in DDP"), std::string::npos);
}

TrainingJobStatus full_status() {
  TrainingJobStatus status{.observedGeneration = 1, .phase = Phase::kRunning, .generation = 2, .restarts = 1};
  status.conditions.push_back({.type = "Running",
                               .status = ConditionStatus::kTrue,
                               .observedGeneration = 1,
                               .lastTransitionTime = "2026-01-02T03:04:05Z",
                               .reason = "Training",
                               .message = "2 of 2 workers train"});
  status.startTime = status.completionTime = "2026-01-02T03:04:05Z";
  status.selector = "trainyard.dev/job-name=watched";
  status.templateHash = "0123";
  status.workers = {.desired = 2, .ready = 2};
  status.placement = PlacementStatus{.workers = 2, .wanted = 4, .domains = {"rack-3"}, .nodes = 2};
  status.resize = ResizeStatus{.reason = ResizeReason::kRoomFound, .workers = 4, .at = "2026-01-02T03:04:05Z"};
  status.progress = Progress{.step = 120,
                             .steps = 500,
                             .epoch = 0.25,
                             .samples = 1920,
                             .tokens = 122880,
                             .loss = 3.11,
                             .validationLoss = 3.2,
                             .validationPerplexity = 24.5,
                             .learningRate = 4.9e-5,
                             .gradientNorm = 0.8,
                             .skippedSteps = 3,
                             .lossScale = 32768,
                             .tokensPerSecond = 5210.5,
                             .mfu = 0.41,
                             .remainingSeconds = 73,
                             .updatedAt = "2026-01-02T03:04:05Z"};
  status.checkpoint = CheckpointStatus{.step = 100, .path = "/checkpoints/step-100", .completedAt = "2026-01-02T03:04:05Z"};
  status.failure = Failure{.failureClass = FailureClass::kInfrastructure,
                           .worker = 1,
                           .rank = 1,
                           .node = "n2",
                           .exitCode = 137,
                           .signal = "SIGKILL",
                           .reason = "RankCrashed",
                           .message = "killed",
                           .lastLines = {"a", "a"},
                           .at = "2026-01-02T03:04:05Z"};
  return status;
}

TEST_F(Crd, KeepsAWholeStatusAndShowsItInColumns) {
  Json job = load_base();
  job["metadata"]["name"] = "watched";
  ASSERT_EQ(server_->ask({"POST", kJobs, job}).status, 201);
  const Answer kept = server_->ask({"PATCH",
                                    kJobs + "/watched/status?fieldValidation=Strict",
                                    {{"status", encode(full_status())}},
                                    "application/merge-patch+json"});
  ASSERT_EQ(kept.status, 200) << kept.body;
  EXPECT_EQ(kept.body.at("status"), encode(full_status()));
  const std::string columns = server_->kubectl("get tj watched").output;
  EXPECT_NE(columns.find("NAME      PHASE     STEP   LOSS   TOKENS/S   LEFT   AGE"), std::string::npos) << columns;
  EXPECT_NE(columns.find("watched   Running   120    3.11   5210.5     73 "), std::string::npos) << columns;
  const std::string wide = server_->kubectl("get tj watched -o wide").output;
  EXPECT_NE(wide.find("MFU    WORKERS   RESTARTS   UNCOUNTED   NODES"), std::string::npos) << wide;
  EXPECT_NE(server_->kubectl("get tj --field-selector status.phase=Running").output.find("watched"), std::string::npos);
  EXPECT_EQ(server_->kubectl("get tj --field-selector status.phase=Failed -o name").output, "");
  EXPECT_NE(server_->kubectl("get all").output.find("trainingjob.trainyard.dev/watched"), std::string::npos);
}

TEST_F(Crd, TakesAnEmptyStatusAndNotAnUnknownPhase) {
  Json job = load_base();
  job["metadata"]["name"] = "fresh";
  ASSERT_EQ(server_->ask({"POST", kJobs, job}).status, 201);
  const auto patch = [&](const Json& status) {
    return server_->ask({"PATCH", kJobs + "/fresh/status", {{"status", status}}, "application/merge-patch+json"}).status;
  };
  EXPECT_EQ(patch(encode(TrainingJobStatus{})), 200);
  EXPECT_EQ(patch({{"phase", "Walking"}}), 422);
}

TEST_F(Crd, IsScaledByKubectl) {
  Json job = load_base();
  job["metadata"]["name"] = "scaled";
  ASSERT_EQ(server_->ask({"POST", kJobs, job}).status, 201);
  const Answer kept =
      server_->ask({"PATCH", kJobs + "/scaled/status", {{"status", encode(full_status())}}, "application/merge-patch+json"});
  ASSERT_EQ(kept.status, 200) << kept.body;
  const Json scale = server_->ask({"GET", kJobs + "/scaled/scale", {}}).body;
  EXPECT_EQ(scale.at("spec").at("replicas"), 2);
  EXPECT_EQ(scale.at("status").at("replicas"), full_status().workers.ready);
  EXPECT_EQ(scale.at("status").at("selector"), full_status().selector);
  const Finished scaled = server_->kubectl("scale tj scaled --replicas 4");
  EXPECT_EQ(scaled.exit_code, 0) << scaled.output;
  EXPECT_EQ(server_->ask({"GET", kJobs + "/scaled", {}}).body.at("spec").at("workers").at("count"), 4);
  const Finished uneven = server_->kubectl("scale tj scaled --replicas 3");
  EXPECT_EQ(uneven.exit_code, 1);
  EXPECT_NE(uneven.output.find("must be a multiple of data x microBatchSize, here 3 x 4 = 12, and is 16"), std::string::npos)
      << uneven.output;
  ASSERT_EQ(server_->kubectl("patch tj scaled --type merge -p '{\"spec\":{\"workers\":{\"minCount\":4}}}'").exit_code, 0);
  const Finished below = server_->kubectl("scale tj scaled --replicas 2");
  EXPECT_EQ(below.exit_code, 1);
  EXPECT_NE(below.output.find("is 4, and exceeds count, 2; lower it, or leave it out"), std::string::npos) << below.output;
  EXPECT_EQ(server_->kubectl("scale tj scaled --replicas 0").exit_code, 1) << "spec.suspend does that";
}

}  // namespace
}  // namespace trainyard::crd_test
