#pragma once
// Which gangs stop so that another finds room: whole gangs, and those that lose the least work. One of higher priority may have the place of
// those of lower; and one whose queue stays within its own quota may take back what queues of its tree borrow, whatever the priorities, as
// in Kueue (reclaimWithinCohort: Any).

#include <optional>
#include <vector>

#include "controller/decide/admission.h"
#include "controller/decide/holdings.h"
#include "controller/decide/placement.h"
#include "controller/decide/review.h"

namespace trainyard::decide {

/// The quota that the gang has to find beside the nodes.
struct QuotaNeed {
  Admission& admission;
  const Admission::Demand& demand;
  const Labels& flavor;
  /// It lacks quota, which it may take back by right. Where it lacks nodes alone, only priority helps: a borrower that went for them would
  /// find its quota free, and be there first the next time.
  bool by_right = true;
};

/// Indexes into `held` of the gangs whose end makes room, in nodes and quota, for the gang of a job of that priority; none where no choice
/// of them does. First those of queues that borrow of what is the gang's by quota, then others of a lower priority (Admission::may_stop());
/// of each as low as possible; among these, the least lost work, then the fewest. Each of them is needed: without any one of them there
/// is no room. None of a queue that would not borrow any more is taken by right of quota. Gangs that vacate already are taken for gone; those that were preempted before are left alone for
/// Settings::preempted_min_run, so that two jobs never take turns without getting on; so are those of which workers are missing, which
/// are in the line themselves.
///
/// The least is NP-hard to find (it holds the knapsack problem); this takes the better of two greedy orders, by lost work and by lost
/// work a device, and then leaves out whoever can be left out, the most expensive first.
/// Cost: that of place_gang(), and O(pods of those gangs).
std::vector<std::size_t> choose_victims(const Topology& topology, const std::vector<Holding>& held, const Gang& gang,
                                        const Priority& priority, const Settings& settings, Time now,
                                        const QuotaNeed* need = nullptr);

/// Until when a job that was preempted before is left alone; nothing where it never was.
std::optional<Time> protected_until(const Job& job, const Settings& settings);

/// What the victim's plan begins with: its ranks are asked for a checkpoint, then its pods go (vacating.h).
/// `reclaims`: the queue that takes its quota back; empty: it is for the priority alone.
void preempt(Review& victim, const Job& by, const Priority& priority, const Priority& own, const std::string& reclaims = "");

}  // namespace trainyard::decide
