#include "controller/decide/pod_template.h"

#include <fstream>
#include <iterator>
#include <set>
#include <type_traits>

#include <gtest/gtest.h>

#include "controller/decide/json_lookup.h"
#include "crds/contract/names.h"
#include "tests/paths.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using contract::Binding;

Settings settings() { return {.default_image = "registry.test/worker:1"}; }
Job job(const char* templ = "{}") {
  Job out = test::make_job("a", 2, 0);
  out.spec.workers.templ = Json::parse(templ);
  return out;
}
Json pod(const Job& of, const WorkerPlace& place = {.worker = 1, .generation = 3, .node = "node-7"}) {
  return worker_pod(of, settings(), place);
}
const Json& first(const Json& pod) { return pod.at("spec").at("containers").at(0); }
const Json* named(const Json& list, const char* name) {
  for (const auto& item : list) {
    if (item.at("name") == name) return &item;
  }
  return nullptr;
}
bool has_all_labels(const Json& pod) {
  const Json& labels = pod.at("metadata").at("labels");
  return labels.contains(contract::kJobLabel) && labels.contains(contract::kWorkerLabel) &&
         labels.contains(contract::kGenerationLabel);
}
std::vector<std::string> fields(const Job& of) {
  std::vector<std::string> out;
  for (const auto& problem : template_problems(of.spec, settings())) out.push_back(problem.field);
  return out;
}

TEST(WorkerPods, AreEachAsIfItWereTheOnlyOne) {
  Job trainyards = job(R"({"spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": "1"}]}]}})");
  Job custom = test::make_custom_job("a", 2, 8);
  const Settings known = settings();
  for (const Job& of : {trainyards, custom}) {
    const WorkerPods all(of, known);
    for (const auto& place : {WorkerPlace{.worker = 0, .generation = 1, .node = "node-1"},
                              WorkerPlace{.worker = 1, .generation = 1, .node = {}, .avoid = {"node-2"}, .pod_group = "group"},
                              WorkerPlace{.worker = -1, .generation = 2, .node = "node-3", .spare = 4}}) {
      EXPECT_EQ(all.pod(place), worker_pod(of, known, place));
    }
  }
}

TEST(WorkerPods, AreNotMadeOfWhatIsGoneBeforeThey) {
  EXPECT_TRUE((std::is_constructible_v<WorkerPods, const Job&, const Settings&>));
  EXPECT_FALSE((std::is_constructible_v<WorkerPods, const Job&, Settings>));
  EXPECT_FALSE((std::is_constructible_v<WorkerPods, Job, const Settings&>));
  EXPECT_FALSE((std::is_constructible_v<WorkerPods, Job, Settings>));
}

TEST(WorkerPod, IsWholeWhereTheTemplateIsEmpty) {
  const Json made = pod(job());
  EXPECT_EQ(made["kind"], "Pod");
  EXPECT_EQ(made["metadata"]["name"], "a-1-3");
  EXPECT_EQ(made["metadata"]["namespace"], "default");
  EXPECT_EQ(made["spec"]["restartPolicy"], "Never");
  EXPECT_EQ(made["spec"]["automountServiceAccountToken"], false);
  EXPECT_EQ(made["spec"]["enableServiceLinks"], false);
  EXPECT_EQ(made["spec"]["nodeName"], "node-7");
  EXPECT_EQ(first(made)["name"], "worker");
  EXPECT_EQ(first(made)["image"], "registry.test/worker:1");
  EXPECT_EQ(first(made)["command"], (Json{"trainyard-worker", "agent"}));
  EXPECT_EQ(first(made)["terminationMessagePolicy"], "File");
  const Json* port = named(first(made)["ports"], "trainyard");
  ASSERT_NE(port, nullptr);
  EXPECT_EQ((*port)["containerPort"], 8471);
}

TEST(WorkerPod, CarriesItsJobItsIndexAndItsGeneration) {
  const Json made = pod(job(R"({"metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}}})"));
  const Json& labels = made["metadata"]["labels"];
  EXPECT_EQ(labels["team"], "x");
  EXPECT_EQ(labels["trainyard.dev/job-name"], "a");
  EXPECT_EQ(labels["trainyard.dev/worker-index"], "1");
  EXPECT_EQ(labels["trainyard.dev/generation"], "3");
  EXPECT_EQ(labels["app.kubernetes.io/managed-by"], "trainyard");
  EXPECT_EQ(made["metadata"]["annotations"]["note"], "y");
  const std::string hash = made["metadata"]["annotations"]["trainyard.dev/template-hash"];
  EXPECT_EQ(hash.size(), 33u) << "of the template, and of the default image, which this one has";
  ASSERT_EQ(made["metadata"]["ownerReferences"].size(), 1u);
  const Json& owner = made["metadata"]["ownerReferences"][0];
  EXPECT_EQ(owner["uid"], "uid-a");
  EXPECT_EQ(owner["kind"], "TrainingJob");
  EXPECT_EQ(owner["controller"], true);
  EXPECT_EQ(owner["blockOwnerDeletion"], true) << "a job that is deleted in the foreground is there as long as its pods are";
}

TEST(WorkerPod, KeepsWhatTheTemplateSays) {
  const Json made =
      pod(job(R"({"spec": {"serviceAccountName": "s", "containers": [{"name": "sidecar", "image": "i"}, {"name": "worker",
    "image": "mine:1", "command": ["run"], "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "corpus"}}], "terminationGracePeriodSeconds": 900,
    "unknownToUs": {"x": 1}}})"));
  const Json& worker = made["spec"]["containers"][1];
  EXPECT_EQ(worker["image"], "mine:1");
  EXPECT_EQ(worker["command"], (Json{"run"}));
  EXPECT_NE(named(worker["env"], "A"), nullptr);
  EXPECT_EQ(worker["volumeMounts"][0]["mountPath"], "/data");
  EXPECT_EQ(made["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "corpus");
  EXPECT_EQ(made["spec"]["terminationGracePeriodSeconds"], 900);
  EXPECT_EQ(made["spec"]["unknownToUs"]["x"], 1);
  EXPECT_EQ(made["spec"]["containers"][0], (Json{{"name", "sidecar"}, {"image", "i"}})) << "other containers are left alone";
}

TEST(WorkerPod, TellsTheAgentWhoItIs) {
  const Json made = pod(job());
  for (const auto& [name, path] : std::map<std::string, std::string>{{contract::kPodIpVariable, "status.podIP"},
                                                                     {contract::kPodUidVariable, "metadata.uid"},
                                                                     {contract::kPodNameVariable, "metadata.name"},
                                                                     {contract::kNodeNameVariable, "spec.nodeName"}}) {
    const Json* variable = named(first(made)["env"], name.c_str());
    ASSERT_NE(variable, nullptr) << name;
    EXPECT_EQ((*variable)["valueFrom"]["fieldRef"]["fieldPath"], path);
  }
}

TEST(WorkerPod, GivesTheCheckpointItsGraceAndTheAgentALittleMore) {
  Job of = job();
  of.spec.lifecycle.checkpointGraceSeconds = 40;
  EXPECT_EQ((*named(first(pod(of))["env"], "TRAINYARD_GRACE_SECONDS"))["value"], "40");
  EXPECT_EQ(pod(of)["spec"]["terminationGracePeriodSeconds"], 50);
}

TEST(WorkerPod, MountsTheKeySoThatAnyUserCanReadIt) {
  Json made = pod(job());
  EXPECT_EQ((*named(first(made)["volumeMounts"], "trainyard-key"))["mountPath"], "/var/run/secrets/trainyard.dev");
  const Json& secret = (*named(made["spec"]["volumes"], "trainyard-key"))["secret"];
  EXPECT_EQ(secret["secretName"], key_secret(job(), settings()).name);
  EXPECT_EQ(secret["defaultMode"], 0444);
  made = pod(job(R"({"spec": {"securityContext": {"fsGroup": 7}}})"));
  EXPECT_EQ((*named(made["spec"]["volumes"], "trainyard-key"))["secret"]["defaultMode"], 0440);
}

TEST(WorkerPod, NamesTheSecretByTheUidSinceThatOfADeletedJobMayLinger) {
  Job again = job();
  again.uid = "other-uid";
  EXPECT_NE(key_secret(again, settings()), key_secret(job(), settings()));
}

TEST(WorkerPod, MountsAnotherSecretUnderAnotherControllerKeySinceThatOfTheOldOneIsNeverChanged) {
  Settings other = settings();
  other.key_id = "0a1b2c3d";
  EXPECT_EQ(key_secret(job(), other).name.substr(key_secret(job(), other).name.size() - 9), "-0a1b2c3d");
  const Json made = worker_pod(job(), other, {});
  EXPECT_EQ(named(made["spec"]["volumes"], "trainyard-key")->at("secret")["secretName"], key_secret(job(), other).name);
}

/// The names of all fields, and of what is listed by name, that `made` has more than `given`.
void collect_additions(const Json& given, const Json& made, std::set<std::string>& names) {
  if (made.is_object()) {
    for (const auto& [key, value] : made.items()) {
      const bool is_new = !given.is_object() || !given.contains(key);
      if (is_new) names.insert(key);
      collect_additions(is_new ? Json() : given.at(key), value, names);
    }
    if (given.is_null() && made.contains("name")) names.insert(made.at("name").get<std::string>());
  } else if (made.is_array()) {
    for (std::size_t i = 0; i < made.size(); ++i) {
      collect_additions(given.is_array() && i < given.size() ? given[i] : Json(), made[i], names);
    }
  }
}

TEST(WorkerPod, IsDescribedWholeInTheOperatorsHandbook) {
  std::ifstream page(test::kSourceDir + std::string("/docs/operating.md"));
  std::string text((std::istreambuf_iterator<char>(page)), {});
  text = text.substr(text.find("## What the controller adds to a template"));
  text = text.substr(0, text.find("\n## ", 1));
  Job of = job(R"({"metadata": {}, "spec": {"containers": [{}]}})");
  of.spec.workers.gpusPerWorker = 1;
  std::set<std::string> names;
  for (const Binding binding : {Binding::kDirect, Binding::kScheduler}) {
    of.spec.placement.binding = binding;
    const Json made = pod(of);
    for (const char* part : {"metadata", "spec"}) collect_additions(of.spec.workers.templ.at(part), made.at(part), names);
  }
  EXPECT_TRUE(names.contains("TRAINYARD_POD_IP") && names.contains("nodeName") && names.contains("trainyard-key"));
  // What the page says in other words, and the insides of what it names.
  for (const char* inside : {"a-1-3",
                             "a",
                             "labels",
                             "annotations",
                             "apiVersion",
                             "kind",
                             "uid",
                             "controller",
                             "blockOwnerDeletion",
                             "value",
                             "valueFrom",
                             "fieldRef",
                             "fieldPath",
                             "containerPort",
                             "protocol",
                             "limits",
                             "requests",
                             "nvidia.com/gpu",
                             "volumes",
                             "volumeMounts",
                             "mountPath",
                             "readOnly",
                             "secret",
                             "secretName",
                             "defaultMode",
                             "emptyDir",
                             "medium",
                             "key",
                             "operator",
                             "effect",
                             "values",
                             "nodeAffinity",
                             "requiredDuringSchedulingIgnoredDuringExecution",
                             "nodeSelectorTerms",
                             "matchFields",
                             "type",
                             "drop"}) {
    names.erase(inside);
  }
  for (const auto& name : names) EXPECT_NE(text.find("`" + name), std::string::npos) << name << " is not in docs/operating.md";
}

TEST(WorkerPod, HasSharedMemoryUnlessTheTemplateMountsItsOwn) {
  const Json made = pod(job());
  EXPECT_EQ((*named(made["spec"]["volumes"], "trainyard-shm"))["emptyDir"]["medium"], "Memory");
  EXPECT_EQ((*named(first(made)["volumeMounts"], "trainyard-shm"))["mountPath"], "/dev/shm");
  const Json own = pod(job(R"({"spec": {"containers": [{"volumeMounts": [{"name": "s", "mountPath": "/dev/shm"}]}],
    "volumes": [{"name": "s", "emptyDir": {}}]}})"));
  EXPECT_EQ(named(own["spec"]["volumes"], "trainyard-shm"), nullptr);
  EXPECT_EQ(named(first(own)["volumeMounts"], "trainyard-shm"), nullptr);
}

TEST(WorkerPod, FulfilsTheRestrictedProfileWhereTheTemplateIsSilent) {
  const Json made = pod(job());
  EXPECT_EQ(made["spec"]["securityContext"]["runAsNonRoot"], true);
  EXPECT_EQ(made["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
  EXPECT_EQ(first(made)["securityContext"]["allowPrivilegeEscalation"], false);
  EXPECT_EQ(first(made)["securityContext"]["capabilities"]["drop"], (Json{"ALL"}));
  const Json root = pod(job(
      R"({"spec": {"securityContext": {"runAsNonRoot": false}, "containers": [{"securityContext": {"privileged": true}}]}})"));
  EXPECT_EQ(root["spec"]["securityContext"]["runAsNonRoot"], false);
  EXPECT_FALSE(first(root)["securityContext"].contains("allowPrivilegeEscalation"));
}

TEST(WorkerPod, AsksForItsGpus) {
  Job gpus = job(R"({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}})");
  gpus.spec.workers.gpusPerWorker = 8;
  const Json made = pod(gpus);
  EXPECT_EQ(first(made)["resources"]["limits"]["nvidia.com/gpu"], "8");
  EXPECT_EQ(first(made)["resources"]["requests"]["nvidia.com/gpu"], "8");
  EXPECT_EQ(first(made)["resources"]["requests"]["cpu"], "1");
}

TEST(WorkerPod, StaysWhereItsNodeIsAwaySinceTheControllerDecides) {
  const Json made = pod(job(R"({"spec": {"tolerations": [{"key": "team", "operator": "Exists"}]}})"));
  ASSERT_EQ(made["spec"]["tolerations"].size(), 3u);
  for (int i : {1, 2}) {
    EXPECT_EQ(made["spec"]["tolerations"][i]["effect"], "NoExecute");
    EXPECT_FALSE(made["spec"]["tolerations"][i].contains("tolerationSeconds"));
  }
}

TEST(WorkerPod, IsPinnedByAffinityWhereKubeSchedulerBinds) {
  Job of = job(R"({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
    [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"matchExpressions": [{"key": "b", "operator": "Exists"}]}]}}}}})");
  of.spec.placement.binding = Binding::kScheduler;
  const Json made = pod(of);
  EXPECT_FALSE(made["spec"].contains("nodeName"));
  const Json& terms =
      made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
  ASSERT_EQ(terms.size(), 2u);
  for (const auto& term : terms) {
    EXPECT_EQ(term["matchFields"][0]["key"], "metadata.name");
    EXPECT_EQ(term["matchFields"][0]["values"], (Json{"node-7"}));
    EXPECT_EQ(term["matchExpressions"].size(), 1u);
  }
  Job plain = job();
  plain.spec.placement.binding = Binding::kScheduler;
  const Json alone = pod(plain);
  EXPECT_EQ(
      alone["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].size(),
      1u);
}

TEST(WorkerPod, HasNoPlaceInADryRun) {
  const Json made = pod(job(), {.worker = 0, .generation = 1, .node = std::nullopt});
  EXPECT_FALSE(made["spec"].contains("nodeName"));
  EXPECT_FALSE(made["spec"].contains("affinity"));
}

TEST(TemplateHash, ChangesWithWhatPodsAreMadeFromAndWithNothingElse) {
  const Job base = job();
  Job other = job(R"({"spec": {"hostname": "x"}})");
  EXPECT_NE(template_hash(base.spec, settings()), template_hash(other.spec, settings()));
  other = base;
  other.spec.training.steps = 7;
  other.spec.suspend = true;
  EXPECT_EQ(template_hash(base.spec, settings()), template_hash(other.spec, settings()));
}

TEST(TemplateHash, HasTheDefaultImageOnlyWhereThePodsHaveIt) {
  Settings next = settings();
  next.default_image = "trainyard.test/worker:next";
  const Job pinned = job(R"({"spec": {"containers": [{"name": "worker", "image": "own:1"}]}})");
  EXPECT_EQ(template_hash(pinned.spec, settings()), template_hash(pinned.spec, next));
  Job plain = job();
  plain.status.templateHash = template_hash(plain.spec, settings());
  EXPECT_EQ(template_change(plain, settings()), "");
  EXPECT_EQ(template_change(plain, next), "the chart's default image for workers was changed");
}

TEST(TemplateProblems, AreNoneForTheUsualTemplates) {
  EXPECT_TRUE(fields(job()).empty());
  EXPECT_TRUE(fields(job(R"({"spec": {"containers": [{"name": "any"}], "restartPolicy": "Never"}})")).empty());
}

TEST(TemplateProblems, AreToldAllAtOnce) {
  Job of = job(
      R"({"spec": {"containers": [{"name": "x", "resources": {"limits": {"cpu": "100x"}}}, {"name": "y"}], "restartPolicy": "Always",
    "nodeName": "n", "automountServiceAccountToken": true, "hostNetwork": true}})");
  EXPECT_EQ(fields(of).size(), 6u);
}

TEST(TemplateProblems, NameGpusThatContradictTheSpec) {
  Job of = job(R"({"spec": {"containers": [{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": 4}}}]}})");
  of.spec.workers.gpusPerWorker = 8;
  EXPECT_EQ(fields(of), (std::vector<std::string>{"spec.workers.template.spec.containers[0].resources.limits.nvidia.com/gpu"}));
  of.spec.workers.gpusPerWorker = 4;
  EXPECT_TRUE(fields(of).empty());
}

TEST(TemplateProblems, LeaveToKubeSchedulerWhatItChecks) {
  Job of = job(R"({"spec": {"schedulingGates": [{"name": "x"}]}})");
  EXPECT_EQ(fields(of).size(), 1u);
  of.spec.placement.binding = Binding::kScheduler;
  EXPECT_TRUE(fields(of).empty());
}

TEST(TemplateProblems, WantAnImageFromSomewhere) {
  EXPECT_FALSE(template_problems(job().spec, Settings{}).empty());
  EXPECT_TRUE(template_problems(job(R"({"spec": {"containers": [{"image": "x"}]}})").spec, Settings{}).empty());
}

TEST(TemplateProblems, SurviveTemplatesThatAreNone) {
  for (const char* text : {"[]", "1", R"({"spec": []})", R"({"spec": {"containers": {}}})", R"({"spec": {"containers": [1]}})"})
    EXPECT_FALSE(fields(job(text)).empty()) << text;
}

TEST(TemplateProblems, AreLabelsByWhichTheControllerKnowsItsPods) {
  const Job of = job(R"({"metadata": {"labels": {"trainyard.dev/worker-index": "0", "team": "x"},
                                      "annotations": {"trainyard.dev/template-hash": "y", "note": "z"}}})");
  EXPECT_EQ(fields(of), (std::vector<std::string>{"spec.workers.template.metadata.labels.trainyard.dev/worker-index",
                                                  "spec.workers.template.metadata.annotations.trainyard.dev/template-hash"}));
}

TEST(WorkerPod, IsTheSpareThatItIsMadeAsWhateverLabelsItsTemplateHas) {
  const Json made =
      pod(job(R"({"metadata": {"labels": {"trainyard.dev/worker-index": "0", "trainyard.dev/generation": "9", "team": "x"}}})"),
          {.worker = -1, .generation = 3, .node = "node-7", .spare = 1});
  const Json& labels = made["metadata"]["labels"];
  EXPECT_FALSE(labels.contains("trainyard.dev/worker-index")) << labels;
  EXPECT_EQ(labels["trainyard.dev/spare"], "1");
  EXPECT_EQ(labels["trainyard.dev/generation"], "3");
  EXPECT_EQ(labels["team"], "x");
}

TEST(WorkerPod, IsMadeOfAnyTemplateSinceRoomIsKeptForOnesThatWereNotLookedAtYet) {
  for (
      const char* text :
      {"5", R"({"spec": 5})", R"({"spec": {"containers": [5]}})", R"({"spec": {"containers": ["x", {"name": 7}]}})",
       R"({"spec": {"volumes": [5, {"name": 5}, {"name": "trainyard-key", "secret": 5}], "containers": [{"env": "x"}]}})",
       R"({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [5]}}}}})"}) {
    for (const auto engine : {contract::Engine::kTrainyard, contract::Engine::kCustom}) {
      for (const auto binding : {Binding::kDirect, Binding::kScheduler}) {
        Job of = job(text);
        of.spec.engine = engine;
        of.spec.placement.binding = binding;
        EXPECT_EQ(pod(of)["kind"], "Pod") << text;
      }
    }
  }
}

Job custom(const char* templ) {
  Job out = test::make_custom_job("a", 2, 0);
  out.spec.workers.templ = Json::parse(templ);
  return out;
}

TEST(ACustomPod, RunsWhatItsImageSaysAsWhomItSays) {
  const Json made = pod(custom(R"({"spec": {"containers": [{"image": "trainer:1"}]}})"));
  EXPECT_EQ(first(made)["name"], "worker");
  EXPECT_EQ(first(made)["image"], "trainer:1");
  for (const char* field : {"command", "args", "ports", "securityContext"}) EXPECT_FALSE(first(made).contains(field)) << field;
  EXPECT_FALSE(made["spec"].contains("securityContext")) << "an image may run as root";
  EXPECT_EQ(first(made)["terminationMessagePolicy"], "FallbackToLogsOnError");
  EXPECT_EQ(made["spec"]["restartPolicy"], "Never");
  EXPECT_EQ(made["spec"]["automountServiceAccountToken"], false);
  EXPECT_EQ(made["spec"]["enableServiceLinks"], false);
  EXPECT_EQ(made["spec"]["nodeName"], "node-7");
  EXPECT_EQ(made["spec"]["hostname"], "a-1-3");
  EXPECT_EQ(made["spec"]["subdomain"], "tj-a-uid-a");
  Job alone = custom(R"({"spec": {"containers": [{"image": "trainer:1"}]}})");
  alone.spec.workers.count = 1;
  EXPECT_FALSE(pod(alone)["spec"].contains("subdomain")) << "there is no Service of that name";
  EXPECT_EQ(first(made)["volumeMounts"], Json::parse(R"([{"name": "trainyard-shm", "mountPath": "/dev/shm"}])"));
  ASSERT_EQ(made["spec"]["volumes"].size(), 1u) << "no key";
  EXPECT_TRUE(has_all_labels(made));
}

TEST(ACustomPod, KeepsWhatItsTemplateSays) {
  const Json made = pod(custom(R"({"spec": {"automountServiceAccountToken": true, "enableServiceLinks": true,
    "terminationGracePeriodSeconds": 5, "containers": [{"name": "worker", "image": "trainer:1", "command": ["torchrun"],
    "args": ["train.py"], "terminationMessagePolicy": "File", "securityContext": {"privileged": true}}]}})"));
  EXPECT_EQ(made["spec"]["automountServiceAccountToken"], true);
  EXPECT_EQ(made["spec"]["enableServiceLinks"], true);
  EXPECT_EQ(made["spec"]["terminationGracePeriodSeconds"], 5);
  EXPECT_EQ(first(made)["command"], (Json{"torchrun"}));
  EXPECT_EQ(first(made)["args"], (Json{"train.py"}));
  EXPECT_EQ(first(made)["terminationMessagePolicy"], "File");
  EXPECT_EQ(first(made)["securityContext"], Json::parse(R"({"privileged": true})"));
}

TEST(ACustomPod, HasTheTimeOfACheckpointToEndWhereItsTemplateIsSilent) {
  Job of = custom(R"({"spec": {"containers": [{"image": "trainer:1"}]}})");
  of.spec.lifecycle.checkpointGraceSeconds = 77;
  EXPECT_EQ(pod(of)["spec"]["terminationGracePeriodSeconds"], 77);
}

TEST(ACustomPod, HasItsPlaceInTheEnvironmentOfAllContainersBeforeTheirOwnVariables) {
  const Json made = pod(custom(R"json({"spec": {"initContainers": [{"name": "preflight", "image": "p:1"}, 7],
    "containers": [{"name": "worker", "image": "trainer:1",
      "env": [{"name": "MASTER_PORT", "value": "1234"}, {"name": "SHARD", "value": "$(RANK)"}]}]}})json"));
  const Json& env = first(made)["env"];
  EXPECT_EQ(env.front()["name"], "MASTER_ADDR");
  EXPECT_EQ(env.back()["name"], "SHARD") << "a variable may refer to earlier ones alone";
  EXPECT_EQ((*named(env, "RANK"))["value"], "1");
  EXPECT_EQ(std::count_if(env.begin(), env.end(), [](const Json& item) { return item["name"] == "MASTER_PORT"; }), 1);
  EXPECT_EQ((*named(env, "MASTER_PORT"))["value"], "1234") << "the template's own";
  EXPECT_EQ((*named(made["spec"]["initContainers"][0]["env"], "RANK"))["value"], "1");
}

TEST(ACustomPod, HasTheKeyOfAnAgentInTheContainerThatDeclaresThePort) {
  const Json made = pod(custom(R"({"spec": {"containers": [{"name": "worker", "image": "trainer:1"},
    {"name": "teller", "image": "teller:1", "ports": [{"name": "trainyard", "containerPort": 9000}]}]}})"));
  const Json& teller = made["spec"]["containers"][1];
  EXPECT_NE(named(teller["volumeMounts"], "trainyard-key"), nullptr);
  EXPECT_NE(named(teller["env"], "TRAINYARD_POD_UID"), nullptr);
  EXPECT_EQ(teller["ports"][0]["containerPort"], 9000);
  EXPECT_EQ(named(first(made)["volumeMounts"], "trainyard-key"), nullptr);
  EXPECT_EQ(named(first(made)["env"], "TRAINYARD_POD_UID"), nullptr);
  EXPECT_NE(named(made["spec"]["volumes"], "trainyard-key"), nullptr);
}

TEST(TemplateProblems, OfTheEngineCustomAreItsImageAndWhatOthersFindItBy) {
  EXPECT_EQ(fields(custom("{}")), (std::vector<std::string>{"spec.workers.template.spec.containers"}));
  EXPECT_EQ(fields(custom(R"({"spec": {"hostname": "a", "subdomain": "b", "automountServiceAccountToken": true,
                              "containers": [{"image": "trainer:1"}]}})")),
            (std::vector<std::string>{"spec.workers.template.spec.hostname", "spec.workers.template.spec.subdomain"}));
}

}  // namespace
}  // namespace trainyard::decide
