#include "controller/reconcile/requests.h"

#include <gtest/gtest.h>

#include "crds/contract/signature.h"
#include "tests/support/builders.h"

namespace trainyard::reconcile {
namespace {

using contract::Json;
using kube::Method;

const Writer kWriter{.controller_key = "controller key", .instance = "controller-0"};

kube::Response error(int status, const char* reason, const char* message = "") {
  return {.status = status, .body = Json(), .reason = reason, .message = message, .retry_after = {}};
}

TEST(Requests, AStatusIsPutOnConditionOfTheResourceVersion) {
  contract::TrainingJobStatus status;
  status.generation = 3;
  const auto request = request_for(decide::WriteStatus{{"ns", "a"}, "uid-a", "42", status});
  EXPECT_EQ(request.method, Method::kPut);
  EXPECT_EQ(request.path, "/apis/trainyard.dev/v1alpha1/namespaces/ns/trainingjobs/a/status");
  EXPECT_EQ(request.body["metadata"]["resourceVersion"], "42");
  EXPECT_EQ(request.body["metadata"]["uid"], "uid-a");
  EXPECT_EQ(request.body["status"]["generation"], 3);
}

TEST(Requests, AQueuesStatusIsWrittenOnConditionThatNobodyElseWrote) {
  const decide::Action action = decide::WriteQueueStatus{"research", "uid-q", "7", {.running = 2}};
  const auto request = request_for(action, kWriter, {});
  EXPECT_EQ(request.method, Method::kPut);
  EXPECT_EQ(request.path, "/apis/trainyard.dev/v1alpha1/trainingqueues/research/status");
  EXPECT_EQ(request.body["metadata"]["resourceVersion"], "7");
  EXPECT_EQ(request.body["kind"], "TrainingQueue");
  EXPECT_EQ(request.body["status"]["running"], 2);
  EXPECT_EQ(to_text(action), "write status of TrainingQueue research");
  EXPECT_EQ(kind_of(action), "write_queue_status");
}

TEST(Requests, APodIsDeletedByItsUid) {
  const auto request = request_for(decide::DeletePod{{"ns", "a-0-1"}, "uid-p", 0, "why"});
  EXPECT_EQ(request.method, Method::kDelete);
  EXPECT_EQ(request.path, "/api/v1/namespaces/ns/pods/a-0-1");
  EXPECT_EQ(request.body["preconditions"]["uid"], "uid-p");
  EXPECT_EQ(request.body["gracePeriodSeconds"], 0);
  EXPECT_FALSE(request_for(decide::DeletePod{{"ns", "a-0-1"}, "uid-p", {}, "why"}).body.contains("gracePeriodSeconds"));
}

TEST(Requests, ASecretHoldsTheJobsOwnKeyAndGoesWithTheJob) {
  const auto request = request_for(decide::CreateSecret{{"ns", "a-key"}, "a", "uid-a"}, kWriter);
  EXPECT_EQ(request.body["stringData"]["key"], contract::job_key("controller key", "uid-a"));
  EXPECT_EQ(request.body["metadata"]["ownerReferences"][0]["uid"], "uid-a");
  EXPECT_EQ(request.body["immutable"], true);
  EXPECT_EQ(request.body.dump().find("controller key"), std::string::npos);
}

TEST(Requests, AServiceOfWorkersHasNoAddressOfItsOwnAndGoesWithTheJob) {
  const auto request = request_for(decide::CreateService{{"ns", "tj-a-0"}, "a", "uid-a"});
  EXPECT_EQ(request.method, Method::kPost);
  EXPECT_EQ(request.path, "/api/v1/namespaces/ns/services");
  EXPECT_EQ(request.body["metadata"]["name"], "tj-a-0");
  EXPECT_EQ(request.body["metadata"]["ownerReferences"][0]["uid"], "uid-a");
  EXPECT_EQ(request.body["spec"]["clusterIP"], "None");
  EXPECT_EQ(request.body["spec"]["publishNotReadyAddresses"], true);
  EXPECT_EQ(request.body["spec"]["selector"], (Json{{"trainyard.dev/job-name", "a"}}));
}

TEST(Requests, AGangIsAWorkloadAndItsPodGroupWhichGoWithTheJob) {
  const decide::GangGroup group{
      .key = {"ns", "a-1-2"}, .job_name = "a", .job_uid = "uid-a", .least = 2, .priority_class = "high"};
  const auto workload = request_for(decide::CreateWorkload{group}), pods = request_for(decide::CreatePodGroup{group});
  EXPECT_EQ(workload.path, "/apis/scheduling.k8s.io/v1beta1/namespaces/ns/workloads");
  EXPECT_EQ(pods.path, "/apis/scheduling.k8s.io/v1beta1/namespaces/ns/podgroups");
  const Json& templ = workload.body.at("/spec/podGroupTemplates/0"_json_pointer);
  EXPECT_EQ(workload.body.at("/spec/controllerRef/name"_json_pointer), "a");
  for (const Json* spec : {&templ, &pods.body.at("spec")}) {
    EXPECT_EQ(spec->at("/schedulingPolicy/gang/minCount"_json_pointer), 2);
    EXPECT_EQ(spec->at("priorityClassName"), "high");
    EXPECT_TRUE(spec->at("disruptionMode").contains("all"));
  }
  EXPECT_EQ(pods.body.at("/spec/workloadRef/workloadName"_json_pointer), workload.body.at("/metadata/name"_json_pointer));
  EXPECT_EQ(pods.body.at("/spec/workloadRef/templateName"_json_pointer), templ.at("name"));
  for (const Json* body : {&workload.body, &pods.body}) {
    EXPECT_EQ(body->at("/metadata/ownerReferences/0/uid"_json_pointer), "uid-a");
  }
}

TEST(Requests, TheServerHasPodGroupsWhereItNamesBothKinds) {
  const auto answer = [](const Json& names) {
    kube::Response response{
        .status = 200, .body = {{"resources", Json::array()}}, .reason = "", .message = "", .retry_after = {}};
    for (const auto& name : names) response.body["resources"].push_back({{"name", name}});
    return response;
  };
  EXPECT_TRUE(has_pod_groups(answer({"podgroups", "podgroups/status", "workloads"})));
  EXPECT_FALSE(has_pod_groups(answer({"podgroups"})));
  EXPECT_FALSE(has_pod_groups(error(404, "NotFound")));
}

TEST(Requests, ADryRunIsStrictAndStoresNothing) {
  const auto request = request_for(decide::DryRunPod{{"ns", "a"}, "uid-a", "hash", Json::object()});
  EXPECT_EQ(request.query.at("dryRun"), "All");
  EXPECT_EQ(request.query.at("fieldValidation"), "Strict");
}

TEST(Requests, AnEventIsAboutTheJobAndShortEnoughForTheServer) {
  std::string text;
  for (int i = 0; i < 800; ++i) text += "ü";
  const decide::Event event{
      .job = {"ns", "a"}, .job_uid = "uid-a", .type = decide::EventType::kWarning, .reason = "R", .message = text, .name = "a.1"};
  const auto request = request_for(event, kWriter, test::at(0));
  EXPECT_EQ(request.path, "/api/v1/namespaces/ns/events");
  EXPECT_EQ(request.body["involvedObject"]["uid"], "uid-a");
  EXPECT_EQ(request.body["type"], "Warning");
  EXPECT_EQ(request.body["firstTimestamp"], "2026-01-01T00:00:00Z");
  const std::string sent = request.body["message"];
  EXPECT_LE(sent.size(), 1'024u);
  EXPECT_NO_THROW(Json(sent).dump());  // no character is torn
}

TEST(Requests, TheSameRefusalHasTheSameEvent) {
  const auto once = refusal_event({"ns", "a"}, "uid-a", "create pod ns/a-0-1: exceeded quota");
  EXPECT_EQ(once.name, refusal_event({"ns", "a"}, "uid-a", "create pod ns/a-0-1: exceeded quota").name);
  EXPECT_NE(once.name, refusal_event({"ns", "a"}, "uid-b", "create pod ns/a-0-1: exceeded quota").name);
  EXPECT_NE(once.name, refusal_event({"ns", "a"}, "uid-a", "create pod ns/a-1-1: exceeded quota").name);
}

TEST(ResultOf, WhatIsAlreadyAsItShouldBeIsDone) {
  const decide::DeletePod remove{{"ns", "p"}, "uid", {}, ""};
  EXPECT_EQ(result_of(remove, error(404, "NotFound")), Result::kDone);
  EXPECT_EQ(result_of(remove, error(409, "Conflict", "Precondition failed: UID in precondition: a, UID in object meta: b")),
            Result::kDone);
  EXPECT_EQ(result_of(decide::CreateSecret{}, error(409, "AlreadyExists")), Result::kDone);
  EXPECT_EQ(result_of(decide::CreateService{}, error(409, "AlreadyExists")), Result::kDone);
  EXPECT_EQ(result_of(decide::Event{}, error(409, "AlreadyExists")), Result::kDone);
  EXPECT_EQ(result_of(decide::DryRunPod{}, error(409, "AlreadyExists")), Result::kDone);
}

TEST(ResultOf, TellsWhatHelps) {
  EXPECT_EQ(result_of(decide::WriteStatus{}, error(409, "Conflict")), Result::kConflict);
  EXPECT_EQ(result_of(decide::WriteStatus{}, error(404, "NotFound")), Result::kConflict);
  EXPECT_EQ(result_of(decide::CreatePod{}, error(0, "")), Result::kTemporary);
  EXPECT_EQ(result_of(decide::CreatePod{}, error(429, "TooManyRequests")), Result::kTemporary);
  EXPECT_EQ(result_of(decide::CreatePod{}, error(503, "ServiceUnavailable")), Result::kTemporary);
  EXPECT_EQ(result_of(decide::CreatePod{}, error(403, "Forbidden")), Result::kRefused);
  EXPECT_EQ(result_of(decide::CreatePod{}, error(422, "Invalid")), Result::kRefused);
  EXPECT_EQ(result_of(decide::DryRunPod{}, error(500, "InternalError")), Result::kTemporary);
}

TEST(ReadAfter, IsDueWhereTheAnswerDoesNotSayWhatIsThere) {
  const auto pod = read_after(decide::CreatePod{{"default", "a-0-1"}, {}});
  ASSERT_TRUE(pod);
  EXPECT_EQ(pod->request.path, "/api/v1/namespaces/default/pods/a-0-1");
  for (const int status : {0, 409, 500, 504}) EXPECT_TRUE(pod->is_due(error(status, ""))) << status;
  for (const int status : {201, 403, 422, 429}) EXPECT_FALSE(pod->is_due(error(status, ""))) << status;
  kube::Response refused = error(0, "");
  refused.not_sent = true;
  EXPECT_FALSE(pod->is_due(refused)) << "no server heard of it";
  const auto job = read_after(decide::WriteStatus{{"default", "a"}, "uid", "1", {}});
  ASSERT_TRUE(job);
  EXPECT_TRUE(job->is_due(error(409, "Conflict")));
  EXPECT_FALSE(job->is_due(error(0, ""))) << "the watch tells, and no room hangs on it";
  EXPECT_FALSE(read_after(decide::DeletePod{}));
}

TEST(ResultOf, TakesOnlyWhatIsSaidOfThePodForTheVerdictOfADryRun) {
  for (const int status : {400, 403, 422}) {
    EXPECT_EQ(result_of(decide::DryRunPod{}, error(status, "")), Result::kDone) << status;
  }
  for (const int status : {401, 405, 406, 413, 415}) {
    EXPECT_EQ(result_of(decide::DryRunPod{}, error(status, "")), Result::kRefused) << status;
  }
}

}  // namespace
}  // namespace trainyard::reconcile
