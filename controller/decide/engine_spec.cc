#include "controller/decide/engine_spec.h"

#include "controller/decide/elastic.h"
#include "controller/decide/text_hash.h"
#include "crds/contract/sparse.h"

namespace trainyard::decide {
namespace {

constexpr std::string_view kSparse = "sparse-";  // what names begin with since defaults have no part in them

/// The spec without what never reaches an engine, and without lifecycle, which holds for each start by itself: another value is no other
/// training.
contract::TrainingJobSpec trained_spec(const contract::TrainingJobSpec& spec, std::int32_t gang_size) {
  contract::TrainingJobSpec out = at_size(spec, gang_size);
  out.workers.templ = contract::Json::object();
  out.suspend = false;
  out.lifecycle = {};
  return out;
}

}  // namespace

contract::TrainingJobSpec engine_spec(const contract::TrainingJobSpec& spec, std::int32_t gang_size) {
  contract::TrainingJobSpec out = trained_spec(spec, gang_size);
  const contract::TrainingJobSpec defaults;
  out.dryRun = defaults.dryRun;
  out.managedBy = defaults.managedBy;
  out.queue = defaults.queue;
  out.priorityClassName = defaults.priorityClassName;
  out.placement = defaults.placement;
  out.workers.spares = defaults.workers.spares;
  out.lifecycle.startTimeoutSeconds = spec.lifecycle.startTimeoutSeconds;  // ranks wait so long for one another
  out.lifecycle.hangTimeoutSeconds = spec.lifecycle.hangTimeoutSeconds;    // and agents end them after so long
  return out;
}

std::string spec_hash(const contract::TrainingJobSpec& spec, std::int32_t gang_size) {
  contract::TrainingJobSpec engine = engine_spec(spec, gang_size);
  engine.lifecycle = {};
  return std::string(kSparse) + json_hash(contract::encode_sparse(engine));
}

std::string older_spec_hash(const contract::TrainingJobSpec& spec, std::int32_t gang_size) {
  return json_hash(contract::encode(trained_spec(spec, gang_size)));
}

bool is_older_spec_hash(const std::string& hash) { return !hash.empty() && !hash.starts_with(kSparse); }

bool is_spec_edited(const Job& job) {
  // The engine Custom takes nothing of the spec but what its pods' environment has, which never changes.
  if (job.spec.engine != contract::Engine::kTrainyard) return false;
  return job.status.specHash != (job.spec_hash.empty() ? spec_hash(job.spec, gang_size(job)) : job.spec_hash);
}

}  // namespace trainyard::decide
