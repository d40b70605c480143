#include "controller/decide/gang_objects.h"

#include "controller/decide/pod_template.h"
#include "controller/decide/torch_environment.h"

namespace trainyard::decide {

std::vector<Action> gang_objects(const Job& job, const Settings& settings) {
  std::vector<Action> out;
  if (has_agent(job.spec)) out.push_back(CreateSecret{key_secret(job, settings), job.key.name, job.uid});
  if (job.spec.engine == contract::Engine::kCustom) out.push_back(CreateService{workers_service(job), job.key.name, job.uid});
  return out;
}

}  // namespace trainyard::decide
