#pragma once
// The line of the jobs that wait for nodes.

#include <cstdint>
#include <optional>
#include <vector>

#include "controller/decide/placement.h"
#include "controller/decide/priority.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {

/// A job that waits for nodes, and for which workers.
struct Candidate {
  const Job* job = nullptr;
  const PodNeeds* needs = nullptr;  // of each of its pods; none: the API server was not asked about them yet
  Priority priority;
  GangView gang;                       // of a job that has pods; else empty, though all its workers are missing
  std::vector<std::int32_t> missing;   // workers without a pod that can be kept
  std::optional<Time> blocked_until;   // their last pods may still run, or the job makes room
  bool makes_room = false;             // for others (creation.h): nothing is kept for it meanwhile
  std::int32_t size = 0;               // how many workers the gang has
  std::vector<std::int32_t> sizes;     // how many it may have when it starts, the most first
  std::int32_t waits_for = 0;          // of these the one that room is kept for
  std::int32_t num_kept = 0;           // pods that stay, whatever becomes their gang's size
  std::int32_t spares = 0;             // that have quota beside them (spares.h)
  std::vector<const Pod*> in_the_way;  // of them those that a gang of this size has no place for: they go first
  bool has_others() const { return num_kept > 0; }
};

/// Those that others of their gang wait for, then those of the highest priority, then the oldest; fair_order.h says whose turn it is.
std::vector<Candidate> line(const Cluster& cluster, Time now);

/// Gangs that train and might have more workers, by priority and age; `sizes` are the larger ones. Also those that have just lost the
/// wish, so that status.resize is taken back. Without `needs` where a controller that begins to lead has yet to ask the API server.
std::vector<Candidate> those_that_may_grow(const Cluster& cluster, Time now);

/// As one of another size; of a candidate of line().
Candidate with_size(const Candidate& candidate, std::int32_t size);

/// A candidate, as large as it is or as another number of workers.
class Sized {
 public:
  Sized(const Candidate& candidate, std::int32_t size) : as_it_is_(candidate) {
    if (size != candidate.size) other_ = with_size(candidate, size);
  }
  const Candidate& operator*() const { return other_ ? *other_ : as_it_is_; }
  const Candidate* operator->() const { return &**this; }

 private:
  const Candidate& as_it_is_;
  std::optional<Candidate> other_;
};

/// The spec, as a gang of the candidate's size reads it.
contract::TrainingJobSpec spec_of(const Candidate& candidate);

/// What is to be placed for it, on nodes with the labels of its queue's flavor.
Gang gang_of(const Cluster& cluster, const Candidate& candidate, const PodNeeds& needs, Time now, const Labels& flavor);

}  // namespace trainyard::decide
