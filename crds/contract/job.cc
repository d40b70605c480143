#include "crds/contract/job.h"

#include <algorithm>

namespace trainyard::contract {

std::int32_t processes_per_worker(const TrainingJobSpec& spec) {
  return std::max(1, spec.workers.processesPerWorker.value_or(spec.workers.gpusPerWorker));
}

std::int32_t world_size(const TrainingJobSpec& spec) { return spec.workers.count * processes_per_worker(spec); }

}  // namespace trainyard::contract
