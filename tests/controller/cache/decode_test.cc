#include "controller/cache/decode.h"

#include <random>

#include <gtest/gtest.h>

#include "controller/cache/cache.h"
#include "tests/controller/cache/objects.h"
#include "tests/support/builders.h"

namespace trainyard::cache {
namespace {

TEST(DecodePod, ReadsWhatBecameOfTheTrainingContainer) {
  Json object = pod_object("a-0-1", 1, "p1");
  contract::State last{.version = 9, .podUid = "p1", .generation = 3, .phase = contract::AgentPhase::kSucceeded};
  object["status"] = {{"phase", "Failed"},
                      {"podIP", "10.0.0.7"},
                      {"reason", "Evicted"},
                      {"message", "low on memory"},
                      {"containerStatuses",
                       {{{"name", "sidecar"}, {"state", {{"running", Json::object()}}}},
                        {{"name", "worker"},
                         {"state",
                          {{"terminated",
                            {{"exitCode", 137},
                             {"reason", "OOMKilled"},
                             {"finishedAt", "2026-01-01T00:00:09Z"},
                             {"message", contract::termination_message(last)}}}}}}}}};
  const auto pod = decode_pod(object);
  ASSERT_TRUE(pod && pod->worker);
  EXPECT_EQ(pod->phase, decide::PodPhase::kFailed);
  EXPECT_EQ(pod->worker->ip, "10.0.0.7");
  EXPECT_EQ(pod->worker->reason, "Evicted");
  EXPECT_FALSE(pod->worker->container_running);
  EXPECT_EQ(pod->worker->exit_code, 137);
  EXPECT_EQ(pod->worker->exit_reason, "OOMKilled");
  EXPECT_EQ(pod->worker->exited_at, test::at(9));
  ASSERT_TRUE(pod->worker->last_word);
  EXPECT_EQ(pod->worker->last_word->generation, 3);
}

TEST(AWorkerPod, TellsWhenItsContainerStartedAlsoOnceItHasEnded) {
  Json object = pod_object("a-0-1", 1, "p1");
  const auto started = [&](const Json& state) {
    object["status"]["containerStatuses"] = {{{"name", "worker"}, {"state", state}}};
    return decode_pod(object)->worker->started_at;
  };
  EXPECT_EQ(started({{"waiting", {{"reason", "ContainerCreating"}}}}), std::nullopt);
  EXPECT_EQ(started({{"running", {{"startedAt", "2026-01-01T00:00:05Z"}}}}), test::at(5));
  EXPECT_EQ(started({{"terminated", {{"exitCode", 1}, {"startedAt", "2026-01-01T00:00:06Z"}}}}), test::at(6));
}

TEST(DecodeJob, ReadsTheTraceThatItContinuesThoughItsSpecIsKnown) {
  Json object = job_object("a", 1);
  object["metadata"]["generation"] = 1;
  const auto known = decode_job(object);
  EXPECT_EQ(known->traceparent, "");
  object["metadata"]["annotations"] = {{decide::kTraceparentAnnotation, "00-a-b-01"}};
  EXPECT_EQ(decode_job(object, &*known)->traceparent, "00-a-b-01");
}

TEST(AShrunkPod, DecodesToTheSameThoughItIsMuchSmaller) {
  Json object = pod_object("a-0-1", 1, "p1");
  object["metadata"]["annotations"] = {{contract::kTemplateHashAnnotation, "hash"}, {"big", std::string(1'000, 'x')}};
  object["metadata"]["managedFields"] = {{{"fieldsV1", {{"f:spec", std::string(1'000, 'x')}}}}};
  object["spec"]["volumes"] = {{{"name", std::string(1'000, 'x')}}};
  object["spec"]["containers"][0]["env"] = {{{"name", "A"}, {"value", std::string(1'000, 'x')}}};
  object["spec"]["initContainers"] = {
      {{"name", "side"}, {"restartPolicy", "Always"}, {"resources", {{"requests", {{"cpu", "2"}}}}}, {"env", {1, 2}}}};
  object["spec"]["overhead"] = {{"cpu", "250m"}};
  object["status"] = {{"phase", "Running"},
                      {"podIP", "10.0.0.7"},
                      {"initContainerStatuses", {{{"name", std::string(1'000, 'x')}}}},
                      {"containerStatuses", {{{"name", "worker"}, {"state", {{"running", Json::object()}}}}}}};
  Json shrunk = object;
  shrink_pod(shrunk);
  EXPECT_EQ(decode_pod(shrunk), decode_pod(object));
  EXPECT_LT(shrunk.dump().size() + 4'900, object.dump().size());
  for (Json odd : {Json(), Json("text"), Json{{"metadata", 3}, {"spec", Json::array()}}}) shrink_pod(odd);
}

TEST(AWorkerPod, HasAnAgentWhereAContainerDeclaresItsPort) {
  Json object = pod_object("a-0-1", 1, "p1");
  EXPECT_EQ(decode_pod(object)->worker->agent_port, 0);
  object["spec"]["initContainers"] = {
      {{"name", "side"},
       {"ports", {{{"name", "http"}, {"containerPort", 80}}, {{"name", "trainyard"}, {"containerPort", 9000}}}}}};
  EXPECT_EQ(decode_pod(object)->worker->agent_port, 9000);
  shrink_pod(object);
  EXPECT_EQ(decode_pod(object)->worker->agent_port, 9000);
  object["spec"]["initContainers"][0]["ports"] = {{{"name", "http"}, {"containerPort", 80}}};
  shrink_pod(object);
  EXPECT_FALSE(object["spec"]["initContainers"][0].contains("ports")) << "nobody asks";
}

TEST(AWorkerPod, KeepsTheEndOfALongTerminationMessageSinceTheCauseStandsThere) {
  Json object = pod_object("a-0-1", 1, "p1");
  std::string log;
  for (int i = 0; i < 400; ++i) log += "step " + std::to_string(i) + "\n";
  object["status"]["containerStatuses"] = {
      {{"name", "worker"}, {"state", {{"terminated", {{"exitCode", 1}, {"message", log + "ValueError: no"}}}}}}};
  const std::string kept = decode_pod(object)->worker->exit_message;
  EXPECT_LE(kept.size(), 2'048u);
  EXPECT_TRUE(kept.starts_with("step ")) << "no line is torn";
  EXPECT_TRUE(kept.ends_with("\nValueError: no"));
}

TEST(AShrunkNode, DecodesToTheSame) {
  Json object = node_object("n1", 1);
  object["metadata"]["labels"] = {{"a", "b"}};
  object["spec"]["taints"] = {{{"key", "k"}, {"effect", "NoSchedule"}}};
  object["status"]["images"] = {{{"names", {std::string(1'000, 'x')}}}};
  Json shrunk = object;
  shrink_node(shrunk);
  EXPECT_EQ(decode_node(shrunk), decode_node(object));
  EXPECT_LT(shrunk.dump().size() + 1'000, object.dump().size());
}

TEST(DecodeNode, NamesTheFirstOfItsConditionsThatSpeaksOfTrouble) {
  Json object = node_object("n1", 1);
  object["status"]["conditions"].push_back({{"type", "EtcdIsVoter"}, {"status", "True"}});
  object["status"]["conditions"].push_back({{"type", "KernelDeadlock"}, {"status", "False"}});
  object["status"]["conditions"].push_back({{"type", "XIDErrors"}, {"status", "True"}});
  EXPECT_EQ(decode_node(object, {"KernelDeadlock", "XIDErrors"})->trouble, "XIDErrors");
  EXPECT_EQ(decode_node(object, {"KernelDeadlock"})->trouble, "");
  EXPECT_EQ(decode_node(object)->trouble, "");
}

TEST(DecodeNode, KnowsWhetherItHasTooLittleMemoryLeft) {
  for (const char* status : {"True", "False", "Unknown"}) {
    Json object = node_object("n1", 1);
    object["status"]["conditions"].push_back({{"type", "MemoryPressure"}, {"status", status}});
    EXPECT_EQ(decode_node(object)->memory_pressure, std::string(status) == "True") << status;
  }
  EXPECT_FALSE(decode_node(node_object("n1", 1))->memory_pressure);
}

TEST(DecodePod, KnowsWhetherTheContainerThatTrainsHasAMemoryLimitAndWhatThePodTolerates) {
  Json object = pod_object("a-0-1", 1, "p1");
  object["spec"]["containers"] = {{{"name", "side"}, {"resources", {{"limits", {{"memory", "1Gi"}}}}}}, {{"name", "worker"}}};
  object["spec"]["tolerations"] = {{{"key", "k"}, {"operator", "Exists"}}};
  EXPECT_FALSE(decode_pod(object)->worker->memory_limited);
  object["spec"]["containers"][1]["resources"]["limits"]["memory"] = "8Gi";
  shrink_pod(object);
  EXPECT_TRUE(decode_pod(object)->worker->memory_limited);
  EXPECT_EQ(decode_pod(object)->worker->tolerations, (std::vector<decide::Toleration>{{.key = "k", .op = "Exists"}}));
}

TEST(DecodePod, TakesAPodForOursOnlyWithOurLabelsAndATrainingJobThatControlsIt) {
  EXPECT_TRUE(decode_pod(pod_object("a-0-1", 1, "p1"))->worker);
  Json copied = pod_object("a-0-1", 1, "p1");
  copied["metadata"].erase("ownerReferences");  // somebody copied the labels into a Deployment's template
  EXPECT_FALSE(decode_pod(copied)->worker);
  Json odd = pod_object("a-0-1", 1, "p1");
  odd["metadata"]["labels"][std::string(contract::kWorkerLabel)] = "first";
  EXPECT_FALSE(decode_pod(odd)->worker);
}

TEST(DecodePod, KnowsAPodThatWasMadeAsASpare) {
  Json object = pod_object("a-s3-1", 1, "p1");
  object["metadata"]["labels"].erase(std::string(contract::kWorkerLabel));
  object["metadata"]["labels"][std::string(contract::kSpareLabel)] = "3";
  shrink_pod(object);
  const auto pod = decode_pod(object);
  ASSERT_TRUE(pod->worker);
  EXPECT_EQ(pod->worker->spare, 3);
  EXPECT_EQ(pod->worker->worker, -1) << "it has no worker's place by itself";
  EXPECT_EQ(decode_pod(pod_object("a-0-1", 1, "p1"))->worker->spare, std::nullopt);
}

TEST(DecodePod, LetsAPinnedPodTakeUpRoomBeforeItIsBound) {
  Json object = pod_object("a-0-1", 1, "p1");
  object["spec"].erase("nodeName");
  object["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] = {
      {{"matchFields", {{{"key", "metadata.name"}, {"operator", "In"}, {"values", {"n7"}}}}}}};
  EXPECT_EQ(decode_pod(object)->nominated_node, "n7");
}

TEST(DecodePod, TakesOtherTextForNoLastWord) {
  for (const char* text : {"", "error: no such file", "{", "{}", "[1]", R"({"podUid": 7})"}) {
    Json object = pod_object("a-0-1", 1, "p1");
    object["status"]["containerStatuses"] = {
        {{"name", "worker"}, {"state", {{"terminated", {{"exitCode", 1}, {"message", text}}}}}}};
    EXPECT_FALSE(decode_pod(object)->worker->last_word) << text;
  }
}

TEST(DecodeClaim, TakesAClaimForBoundOnceItHasItsVolume) {
  EXPECT_EQ(decode_claim(claim_object("c", 1, "Bound"))->volume, "volume-of-c");
  EXPECT_EQ(decode_claim(claim_object("c", 1, "Pending"))->volume, "");
  EXPECT_EQ(decode_claim(claim_object("c", 1, "Lost"))->volume, "");
  Json dying = claim_object("c", 1, "Bound");
  EXPECT_FALSE(decode_claim(dying)->deleting);
  dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z";
  EXPECT_TRUE(decode_claim(dying)->deleting);
}

TEST(DecodeVolume, KeepsFromWhichNodesItCanBeMounted) {
  Json object = volume_object("v", 1);
  object["metadata"]["managedFields"] = object["spec"]["csi"] = "much";
  const auto whole = decode_volume(object);
  EXPECT_EQ(whole->name, "v");
  EXPECT_EQ(whole->required_terms, object["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]);
  shrink_volume(object);
  EXPECT_EQ(decode_volume(object), whole);
  EXPECT_EQ(object["spec"].size(), 1u);
  EXPECT_TRUE(decode_volume({{"metadata", {{"name", "anywhere"}}}})->required_terms.empty());
}

TEST(DecodeJob, KeepsWhatItCouldNotRead) {
  Json object = job_object("a", 1);
  object["spec"]["workers"]["count"] = "two";
  object["spec"]["placement"]["binding"] = "Somehow";
  const auto job = decode_job(object);
  ASSERT_TRUE(job);
  EXPECT_EQ(job->problems.size(), 2u);
}

TEST(DecodeJob, LeavesOutATemplateThatNestsAsDeepAsTheApiServerReads) {
  Json object = job_object("a", 1);
  Json deep;
  for (int i = 0; i < 9'900; ++i) deep = Json::array({std::move(deep)});
  object["spec"]["workers"]["template"]["spec"]["volumes"] = std::move(deep);
  const auto job = decode_job(object);
  ASSERT_EQ(job->problems.size(), 1u);
  EXPECT_EQ(job->problems[0].field, "spec.workers.template");
  EXPECT_TRUE(job->spec.workers.templ.empty());
}

TEST(DecodeJob, TakesNoStatusForOneOfMorePodsThanThereMayBe) {
  for (const std::int64_t number : {std::int64_t{-5}, std::int64_t{INT32_MAX}}) {
    Json object = job_object("a", 1);
    object["status"] = {{"placement", {{"workers", number}}},
                        {"workers", {{"desired", number}}},
                        {"resize", {{"reason", "GrewFrom"}, {"workers", number}}},
                        {"spares", {{"placed", number}, {"made", number}, {"attempts", number}}}};
    const auto job = decode_job(object);
    ASSERT_TRUE(job);
    const auto& status = job->status;
    for (const auto workers : {status.placement->workers.value_or(0), status.resize->workers}) {
      EXPECT_GE(workers, 1);
      EXPECT_LE(workers, 20'000);
    }
    EXPECT_GE(status.workers.desired, 0);
    EXPECT_LE(status.workers.desired, 20'000);
    for (const auto spares : {status.spares->placed, status.spares->made, status.spares->attempts}) {
      EXPECT_GE(spares, 0);
      EXPECT_LE(spares, 1'000'000);
    }
  }
}

TEST(DecodePod, TakesATerminationMessageThatNestsDeepForNoLastWord) {
  Json pod = pod_object("a-0-1", 5, "p1");
  const std::string text = R"({"podUid":"u","version":)" + std::string(2'000, '[') + std::string(2'000, ']') + "}";
  pod["status"]["containerStatuses"] = {{{"name", "worker"}, {"state", {{"terminated", {{"exitCode", 1}, {"message", text}}}}}}};
  EXPECT_FALSE(decode_pod(pod)->worker->last_word);
}

TEST(DecodeJob, KeepsTheSpecOfAJobWhoseGenerationIsTheSame) {
  Json object = job_object("a", 1);
  object["metadata"]["generation"] = 1;
  const auto known = decode_job(object);
  object["status"]["restarts"] = 3;
  const auto restarted = decode_job(object, &*known);
  EXPECT_EQ(restarted->spec, known->spec);
  EXPECT_EQ(restarted->status.restarts, 3);
  object["metadata"]["generation"] = 2;
  object["spec"]["workers"]["count"] = 5;
  EXPECT_EQ(decode_job(object, &*known)->spec.workers.count, 5);
}

TEST(DecodeQueue, ReadsQuotasAsTextOrNumbersInTheUnitsOfTheResource) {
  const auto queue = decode_queue(queue_object("research", 5));
  ASSERT_TRUE(queue);
  EXPECT_EQ(queue->parent, "org");
  EXPECT_EQ(queue->weight, 3);
  EXPECT_EQ(queue->stop, contract::Stop::kHold);
  EXPECT_EQ(queue->namespaces->matchLabels.at("team"), "a");
  ASSERT_EQ(queue->flavors.size(), 1u);
  EXPECT_EQ(queue->flavors[0].labels, (decide::Labels{{"gpu", "h100"}}));
  EXPECT_EQ(queue->flavors[0].resources.at("nvidia.com/gpu"), (decide::QuotaLimits{8, 16, 0}));
  EXPECT_EQ(queue->flavors[0].resources.at("memory"), (decide::QuotaLimits{std::int64_t{1} << 30, {}, {}}));
}

TEST(DecodeQueue, TakesWhatIsNoQuantityForNothing) {
  Json object = queue_object("research", 5);
  object["spec"]["flavors"][0]["resources"][0]["nominal"] = "many";
  object["spec"]["flavors"][0]["resources"][1]["nominal"] = "-1Gi";
  const auto queue = decode_queue(object);
  EXPECT_EQ(queue->flavors[0].resources.at("nvidia.com/gpu").nominal, 0);
  EXPECT_EQ(queue->flavors[0].resources.at("memory").nominal, 0);
}

TEST(Decode, RefusesWhatCannotBeNamed) {
  EXPECT_FALSE(decode_pod(Json()));
  EXPECT_FALSE(decode_pod({{"metadata", {{"name", "a"}, {"namespace", "b"}}}}));
  EXPECT_FALSE(decode_job({{"metadata", {{"name", "a"}, {"uid", "u"}}}}));
  EXPECT_FALSE(decode_node({{"metadata", {{"name", 7}}}}));
  EXPECT_FALSE(decode_claim({{"metadata", {{"name", "a"}}}}));
  EXPECT_FALSE(decode_priority_class({{"metadata", {{"name", "a"}}}, {"value", "high"}}));
  EXPECT_FALSE(decode_queue({{"metadata", {{"name", "a"}}}}));
  EXPECT_FALSE(decode_namespace({{"metadata", {{"uid", "a"}}}}));
}

/// Something else in the place of some value in `json`, by chance.
void spoil(Json& json, std::mt19937& random) {
  static const std::vector<Json> kOdd = {Json(),
                                         Json(true),
                                         Json(-1),
                                         Json(1e300),
                                         Json(""),
                                         Json(std::string("\0\x7f", 2)),
                                         Json("18446744073709551616"),
                                         Json::array(),
                                         Json::object(),
                                         Json::array({Json::array({nullptr})})};
  if (!json.is_structured() || json.empty() || random() % 8 == 0) {
    json = kOdd[random() % kOdd.size()];
    return;
  }
  auto child = json.begin();
  std::advance(child, static_cast<std::ptrdiff_t>(random() % json.size()));
  spoil(*child, random);
}

TEST(Decode, SurvivesWhateverAnObjectMayBe) {
  std::mt19937 random(1);
  Json pod = pod_object("a-0-1", 5, "p1");
  pod["status"]["containerStatuses"] = {{{"name", "worker"}, {"state", {{"terminated", {{"exitCode", 1}, {"message", "{}"}}}}}}};
  const std::vector<Json> whole = {with_phase(job_object("a", 5), "Running"),
                                   pod,
                                   node_object("n1", 5),
                                   claim_object("c", 5, "Bound"),
                                   volume_object("v", 5),
                                   {{"metadata", {{"name", "high"}, {"uid", "u"}, {"resourceVersion", "5"}}}, {"value", 1000}},
                                   queue_object("research", 5),
                                   {{"metadata", {{"name", "default"}, {"labels", {{"team", "a"}}}, {"resourceVersion", "5"}}}}};
  ASSERT_EQ(whole.size(), kNumWatched);
  Cache cache{decide::Settings{}};
  for (int i = 0; i < 6'000; ++i) {
    const std::size_t target = random() % kNumWatched;
    Json object = whole[target];
    for (auto spoils = random() % 3 + 1; spoils > 0; --spoils) spoil(object, random);
    const auto type = static_cast<kube::EventType>(random() % 3);
    const kube::WatchBatch batch{
        .target = target, .relisted = random() % 4 == 0, .events = {{type, object}}, .resource_version = std::to_string(i)};
    cache.apply(batch, test::at(i));
    if (target == 1) cache.assume_pod(object);
    if (target == 0) cache.assume_status(object, test::at(i));
    if (target == 6) cache.assume_queue_status(object, test::at(i));
    cache.apply({.pod_uid = "p1", .state = contract::State{}, .error = ""}, test::at(i));
  }
  EXPECT_LE(cache.cluster().pods().size(), 20u);  // it went on to the end, and what was listed anew replaced the rest
}

}  // namespace
}  // namespace trainyard::cache
