#pragma once
// What a failure leads to: by the job's own rules (lifecycle.failurePolicy), else by the failure's class.

#include <cstdint>
#include <optional>

#include "crds/contract/job.h"

namespace trainyard::decide {

enum class Outcome {
  kFail,     // the job fails at once
  kCounted,  // restarted, where lifecycle.maxRestarts allows another
  kFree      // restarted, and not counted
};

struct Ruling {
  Outcome outcome = Outcome::kCounted;
  std::optional<std::int32_t> rule;  // that decided; nothing: the class did
};

Ruling ruling_on(const contract::Failure& failure, const contract::FailurePolicy& policy);

}  // namespace trainyard::decide
