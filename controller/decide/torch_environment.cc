#include "controller/decide/torch_environment.h"

#include <string>

#include "crds/contract/names.h"

namespace trainyard::decide {

ObjectKey workers_service(const Job& job) { return {job.key.ns, contract::workers_service_name(job.key.name, job.uid)}; }

bool needs_service(const Job& job, std::int32_t workers) { return job.spec.engine == contract::Engine::kCustom && workers > 1; }

Json torch_environment(const Job& job, const WorkerPlace& place) {
  const auto& spec = job.spec;
  const std::int32_t processes = contract::processes_per_worker(spec);
  const std::int32_t workers = place.num_workers.value_or(spec.workers.count);
  // A pod of another generation has another name, so that nobody meets one that is still ending. It resolves inside the namespace,
  // whatever the cluster's domain is.
  const std::string master = needs_service(job, workers)
                                 ? contract::pod_name(job.key.name, 0, place.generation) + "." + workers_service(job).name
                                 : "localhost";
  Json out = Json::array();
  const auto add = [&out](const char* name, std::string value) { out.push_back({{"name", name}, {"value", std::move(value)}}); };
  const std::string port = std::to_string(contract::kRendezvousPort), index = std::to_string(place.worker);
  add("MASTER_ADDR", master);
  add("MASTER_PORT", port);
  add("WORLD_SIZE", std::to_string(workers * processes));
  add("RANK", std::to_string(place.worker * processes));
  add("NODE_RANK", index);
  add("LOCAL_WORLD_SIZE", std::to_string(processes));
  add("PET_NNODES", std::to_string(workers));
  add("PET_NPROC_PER_NODE", std::to_string(processes));
  add("PET_NODE_RANK", index);
  add("PET_MASTER_ADDR", master);
  add("PET_MASTER_PORT", port);
  if (spec.workers.threadsPerProcess) add("OMP_NUM_THREADS", std::to_string(*spec.workers.threadsPerProcess));
  return out;
}

}  // namespace trainyard::decide
