#pragma once
// Whether a job can work at all, before anything is made of it: the conditions Accepted and Admitted.

#include "controller/decide/review.h"

namespace trainyard::decide {

/// Checks what the API server's schema could not, and has the API server itself check worker 0's pod by a dry run. A job
/// that runs keeps what it was accepted for: its condition says when an edited template takes effect. Of a new job that may run the
/// first word is schedule()'s, milliseconds later: whether there is room.
void accept(Review& review);
/// Words of its condition where the engines have not taken all of the spec.
inline constexpr const char* kAtNextRestart = "the change takes effect at the next restart";

/// What schedule() has to say may be the first that is said of the job. `gang`: as the line sees it, where a job without pods has no workers.
Review review_in_line(const Cluster& cluster, const Job& job, Time now, GangView gang);

/// Whether the job is accepted, or would be by accept() now; of one whose template the API server has accepted.
bool is_acceptable(const Cluster& cluster, const Job& job, Time now);

/// Before a gang that trains is stopped to be placed anew: whether it would be, as far as that is no matter of room. What it was accepted for
/// when it was placed may be gone: its priority class, a volume, the webhook's consent.
struct SecondLook {
  std::optional<DryRunPod> ask;  // the API server is to be asked first: it was not yet, or too long ago
  std::string problem;           // why the gang would not be placed
  std::string no_more_pods;      // why it would get no more pods than it has
  std::optional<Time> again;     // where the API server said no: when it is asked anew
};
SecondLook second_look(const Cluster& cluster, const Job& job, Time now);

}  // namespace trainyard::decide
