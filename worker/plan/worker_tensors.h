#pragma once
// What the ranks of a worker keep together in the one memory that they have without GPUs.

#include <cstdint>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// Bytes that the tensors of a worker's ranks take at one moment, at the least, when they take most, of the worker where that is most: what each
/// keeps from step to step, and what comes and goes in a step of those of one pipeline stage. These do the same at the same time, since
/// each step waits for all of them; other stages are elsewhere in the step then. Of Interleaved and ZeroBubble with data or tensor ranks beside the
/// stages half of what comes and goes, since that is foretold too roughly to be at least as much. For a job without GPUs, valid and reckonable. Cost: that of
/// bytes_per_rank() a stage, and nanoseconds a rank.
std::int64_t tensor_bytes_per_worker(const contract::TrainingJobSpec& spec);

}  // namespace trainyard::plan
