#pragma once
// Specs that are absurd as a whole, though each field is within its limits: a micro-batch of a million samples of ten million tokens.

#include "crds/contract/job.h"

namespace trainyard::plan {

/// Whether what a step takes and sends (cost.h, offload_cost.h, zero_cost.h, traffic.h), summed over all ranks, fits 64 bits. What the largest
/// models take does many times over. For a valid spec of the engine Trainyard.
bool is_reckonable(const contract::TrainingJobSpec& spec);

}  // namespace trainyard::plan
