#include "controller/decide/next_generation.h"

#include <algorithm>

#include "controller/decide/elastic.h"
#include "controller/decide/engine_spec.h"
#include "crds/contract/names.h"

namespace trainyard::decide {

std::int64_t next_generation(const Cluster& cluster, const Job& job) {
  const std::int32_t most = std::max(job.spec.workers.count, gang_size(job));
  const auto is_taken = [&](std::int64_t generation) {
    for (std::int32_t i = 0; i < most; ++i) {
      if (cluster.pod({job.key.ns, contract::pod_name(job.key.name, i, generation)}) != nullptr) return true;
    }
    return false;
  };
  std::int64_t next = job.status.generation + 1;
  while (is_taken(next)) ++next;
  return next;
}

void begin_generation(Review& review) {
  review.status.generation = next_generation(review.cluster, review.job);
  review.status.specHash = spec_hash(review.job.spec, gang_size(review.job.spec, review.status));
  forget_resize(review.status, review.now);
}

}  // namespace trainyard::decide
