#pragma once
// A job that rests, in a fifth of its room: of tens of thousands of jobs most are suspended or have ended, and it is only when something happens
// to one of them that anybody looks at it (docs/design/0024-resting-jobs.md).

#include <cstdint>
#include <optional>
#include <string>

#include "crds/contract/job_status.h"

namespace trainyard::decide {

struct Job;
struct ObjectKey;

/// All of a Job but its key and what was reckoned of its devices, and beside it what is asked of all jobs again and again.
struct PackedJob {
  std::string uid, resource_version;
  contract::Phase phase = contract::Phase::kPending;
  std::string gpu_resource;                 // spec.workers.gpuResourceName; empty where the job asks for no GPU
  std::optional<std::int64_t> start_delay;  // status.queue.startDelaySeconds
  std::string bytes;                        // the rest (packed.h)
};

PackedJob pack(const Job& job);
/// As it was packed.
Job unpack(const ObjectKey& key, const PackedJob& packed);

}  // namespace trainyard::decide
