#pragma once
// How many workers a gang has: as many as there is room for between workers.minCount and workers.count (elastic data parallelism), and
// another number once the user changes workers.count (kubectl scale).

#include <cstdint>
#include <optional>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// Workers of the gang that the job has, by status.placement (older_status.h); where it has none, as many as it asks for.
std::int32_t gang_size(const contract::TrainingJobSpec& spec, const contract::TrainingJobStatus& status);
inline std::int32_t gang_size(const Job& job) { return gang_size(job.spec, job.status); }

/// How many workers a gang of the job may have, the most first: count, and down to minCount the numbers whose ranks make whole replicas of
/// the model and whose replicas share the batch evenly. Never empty.
std::vector<std::int32_t> gang_sizes(const contract::TrainingJobSpec& spec);

/// The spec as a gang of that size reads it: parallelism.data is what remains of its ranks.
contract::TrainingJobSpec at_size(const contract::TrainingJobSpec& spec, std::int32_t size);

/// Whether a gang can become another number of workers while it trains: it stops at a checkpoint and goes on from that. Of the engine
/// Custom nobody knows when it has written one.
bool can_resize(const contract::TrainingJobSpec& spec);

/// Whether the gang trains well with another number of workers than it might have.
bool may_resize(const Job& job);

/// The user wants fewer workers than the gang has: so many. Nothing where he does not, or where it can't become them now.
std::optional<std::int32_t> fewer_wanted(const Job& job);

/// The user has asked for more workers since the gang was placed.
bool asks_for_more(const Job& job);

/// status.resize, where it is there for that reason.
const contract::ResizeStatus* resize_for(const contract::TrainingJobStatus& status, contract::ResizeReason reason);
/// Writes it. There is one of them at a time: a gang that is told to stop, or grew, has no use for what it knew of its growth before.
void set_resize(contract::TrainingJobStatus& status, contract::ResizeReason reason, std::int32_t workers, Time at);

/// The least size that is not to be tried for a while: the API server refused pods of so many workers (a ResourceQuota, an admission webhook),
/// or the gang failed as it was to grow to it. Nothing where all may be tried.
std::optional<std::int32_t> refused_size(const contract::TrainingJobStatus& status, Time now);
/// Until when; before that the gang does not grow of itself at all.
std::optional<Time> refused_until(const contract::TrainingJobStatus& status, Time now);

/// Notes that.
void refuse_size(contract::TrainingJobStatus& status, std::int32_t size, const Settings& settings, Time now);

/// What was known of another size is no longer so; but not that one was refused.
void forget_resize(contract::TrainingJobStatus& status, Time now);

/// When a gang that trains, and finds room for more workers now, stops for them: at once where the user has asked for more since it was
/// placed; else when there has been room for Settings::grow_after all the time. A stop costs it a checkpoint and a start, so room that a job
/// takes which comes a moment later would have made it stop in vain, and a gang whose room comes and goes would do little else. So
/// a gang grows by itself at most once in that time.
Time grows_at(const Job& job, const Settings& settings, Time now);

}  // namespace trainyard::decide
