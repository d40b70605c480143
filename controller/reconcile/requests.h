#pragma once
// Actions as requests to the API server, and what its answers mean. Pure.

#include <optional>
#include <string>

#include "controller/decide/plan.h"
#include "controller/kube/kube_api.h"

namespace trainyard::reconcile {

/// Who writes: kept in events and, as the base of each job's own key, in Secrets.
struct Writer {
  std::string controller_key;
  std::string instance;  // this controller's pod, as reportingInstance
};

kube::Request request_for(const decide::WriteStatus& action);
kube::Request request_for(const decide::WriteQueueStatus& action);
kube::Request request_for(const decide::CreatePod& action);
kube::Request request_for(const decide::DeletePod& action);
/// Throws std::runtime_error when OpenSSL fails.
kube::Request request_for(const decide::CreateSecret& action, const Writer& writer);
kube::Request request_for(const decide::CreateService& action);
kube::Request request_for(const decide::CreateWorkload& action);
kube::Request request_for(const decide::CreatePodGroup& action);
/// What the API server answers with 200 and the names of its kinds where it has these two.
kube::Request pod_groups_request();
bool has_pod_groups(const kube::Response& response);
kube::Request request_for(const decide::DryRunPod& action);
kube::Request request_for(const decide::Event& action, const Writer& writer, contract::Time now);
kube::Request request_for(const decide::DeleteJob& action);
kube::Request request_for(const decide::Action& action, const Writer& writer, contract::Time now);
/// What is to be read where the answer to an action does not say what is there now, so that the brain knows at once what the watch will show
/// later: the pod that has the name, or the job that somebody else wrote to.
struct ReadAfter {
  kube::Request request;
  bool if_unanswered = false;  // not after a conflict alone: a pod may have been made though the answer is lost, or a 5xx
  bool is_due(const kube::Response& response) const;
};
std::optional<ReadAfter> read_after(const decide::Action& action);

/// For logs and metrics: "write status of default/llama", "create pod default/llama-0-1".
std::string to_text(const decide::Action& action);
/// The kind of the action alone, of which there are few: "create_pod".
std::string_view kind_of(const decide::Action& action);

/// The event that tells of a refused write: its name is a function of what it says, so that it is told once.
decide::Event refusal_event(const decide::ObjectKey& job, const std::string& job_uid, const std::string& message);

/// The same of a bug of this controller that the job brings to light.
decide::Event bug_event(const decide::ObjectKey& job, const std::string& job_uid, const std::string& what);

enum class Result {
  kDone,       // it is as the action wants it
  kConflict,   // the object has changed or gone: look again
  kTemporary,  // no answer, 429, 5xx: the same again later
  kRefused     // 400, 403, 422, …: a person has to change something
};
Result result_of(const decide::Action& action, const kube::Response& response);
/// A ResourceQuota is used up: says nothing of the pod, and passes when others end. Creating the gang's pods tells of it, as it is then.
bool is_quota(const kube::Response& response);

}  // namespace trainyard::reconcile
