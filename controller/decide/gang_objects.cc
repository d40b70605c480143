#include "controller/decide/gang_objects.h"

#include <algorithm>

#include "controller/decide/json_lookup.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/text_hash.h"
#include "controller/decide/torch_environment.h"

namespace trainyard::decide {

std::vector<Action> gang_objects(const Job& job, const Settings& settings, std::int32_t workers, bool needs_group) {
  std::vector<Action> out;
  if (has_agent(job.spec)) out.push_back(CreateSecret{key_secret(job, settings), job.key.name, job.uid});
  if (needs_service(job, workers)) out.push_back(CreateService{workers_service(job), job.key.name, job.uid});
  if (needs_group) {
    out.push_back(CreateWorkload{gang_group(job)});
    out.push_back(CreatePodGroup{gang_group(job)});
  }
  return out;
}

GangGroup gang_group(const Job& job) {
  const auto& spec = job.spec;
  const std::int32_t least = std::min(spec.workers.minCount.value_or(spec.workers.count), spec.workers.count);
  const Json& of_template = member(member(spec.workers.templ, "spec"), "priorityClassName");
  const std::string name = job.key.name + "-" + text_hash(job.uid).substr(0, 8) + "-" + std::to_string(least);
  return {.key = {job.key.ns, name},
          .job_name = job.key.name,
          .job_uid = job.uid,
          .least = least,
          .priority_class = spec.priorityClassName.value_or(of_template.is_string() ? of_template.get<std::string>() : "")};
}

std::string group_of_new_pods(const Job& job, const GangView& gang, bool keeps_some, const Settings& settings) {
  if (!keeps_some) return settings.pod_groups ? gang_group(job).key.name : "";
  const Pod* newest = nullptr;
  for (const auto& worker : gang.workers) {
    const bool is_there = worker.pod != nullptr && is_live(*worker.pod);
    if (is_there && (newest == nullptr || worker.pod->worker->generation > newest->worker->generation)) newest = worker.pod;
  }
  return newest == nullptr ? "" : newest->worker->pod_group;
}

}  // namespace trainyard::decide
