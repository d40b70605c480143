#include "controller/decide/older_status.h"

#include "controller/decide/elastic.h"
#include "controller/decide/engine_spec.h"

namespace trainyard::decide {

bool complete_older_status(Review& review) {
  auto& status = review.status;
  if (!status.placement || status.placement->workers) return false;
  const std::int32_t size = gang_size(review.job);
  status.placement->workers = size;
  status.placement->wanted = size;
  // The hash was of a spec with parallelism.data. Where all have taken their part of it, nobody asks for it again.
  if (is_true(status, condition::kRunning)) status.specHash = spec_hash(review.job.spec, size);
  return true;
}

}  // namespace trainyard::decide
