#include "controller/decide/engine_spec.h"

#include "controller/decide/elastic.h"
#include "controller/decide/text_hash.h"

namespace trainyard::decide {

contract::TrainingJobSpec engine_spec(const contract::TrainingJobSpec& spec, std::int32_t gang_size) {
  contract::TrainingJobSpec out = at_size(spec, gang_size);
  out.workers.templ = contract::Json::object();
  out.suspend = false;
  out.lifecycle = {};
  out.lifecycle.startTimeoutSeconds = spec.lifecycle.startTimeoutSeconds;  // ranks wait so long for one another
  out.lifecycle.hangTimeoutSeconds = spec.lifecycle.hangTimeoutSeconds;    // and agents end them after so long
  return out;
}

std::string spec_hash(const contract::TrainingJobSpec& spec, std::int32_t gang_size) {
  contract::TrainingJobSpec engine = engine_spec(spec, gang_size);
  engine.lifecycle = {};  // holds for each start by itself: another value is no other training
  return text_hash(contract::encode(engine).dump(-1, ' ', false, Json::error_handler_t::replace));
}

bool is_spec_edited(const Job& job) {
  // The engine Custom takes nothing of the spec but what its pods' environment has, which never changes.
  if (job.spec.engine != contract::Engine::kTrainyard) return false;
  return job.status.specHash != (job.spec_hash.empty() ? spec_hash(job.spec, gang_size(job)) : job.spec_hash);
}

}  // namespace trainyard::decide
