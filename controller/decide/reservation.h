#pragma once
// Keeps room for the jobs at the head of the line, so that large ones are not starved by small ones that always fit into what is free.
//
// Source: D. Lifka, The ANL/IBM SP Scheduling System (EASY backfill), 1995; several reservations as in A. Mu'alem and D. Feitelson,
// Utilization, Predictability, Workloads, and User Runtime Estimates in Scheduling the IBM SP2 with Backfilling, 2001.

#include <optional>
#include <vector>

#include "controller/decide/holdings.h"
#include "controller/decide/placement.h"

namespace trainyard::decide {

struct Reservation {
  const Job* job = nullptr;
  std::optional<Time> start;  // when there is expected to be room; nothing: nobody can know
  NodeAmounts takes;          // what the job will take of its nodes
  NodeAmounts leaves;         // what others may take of them that will not be gone by then
};

/// When and where there will be room for a gang that finds none, beside the earlier reservations, as the gangs end in the order of
/// `held`; what its own job holds stays. The topology is afterwards as it was. Nothing where there is none even when all of them are gone: other pods are in the way, or it never fits.
/// Cost: that of place_gang(), and O(pods of those gangs).
std::optional<Reservation> reserve(Topology& topology, const std::vector<Holding>& held, const std::vector<Reservation>& earlier,
                                   const Gang& gang, const Job& job);

/// Whether somebody who starts now has to leave the reserved room alone, since he will not be gone by then.
bool binds(const Reservation& reservation, std::optional<Time> end);

}  // namespace trainyard::decide
