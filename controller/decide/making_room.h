#pragma once
// How room is made in one look at the line: by keeping it, or by gangs that stop so that another finds room.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controller/decide/plan.h"
#include "controller/decide/room.h"

namespace trainyard::decide {

class MakingRoom {
 public:
  /// The plans of gangs that are to stop go into `plans`. All of them must outlive this.
  MakingRoom(const Cluster& cluster, Time now, Room& room, std::map<ObjectKey, Plan>& plans)
      : cluster_(cluster), now_(now), room_(room), plans_(plans) {}

  /// Nobody is stopped for pods that the API server would not have.
  bool may_preempt(const Job& job) const;
  /// For one that lacks nodes alone. Nothing where there will never be room, as far as one can see.
  std::optional<Reservation> reserve_or_preempt(const Candidate& candidate, const Gang& gang, const Admission::Demand& demand,
                                                const Labels& flavor);
  /// Stops gangs whose end gives the quota and the nodes that it needs. Nothing where no choice of them does.
  std::optional<Reservation> reclaim(const Candidate& candidate, const Gang& gang, const Admission::Demand& demand,
                                     const Labels& flavor);

  /// The jobs that are about to leave the nodes that it is to get, at a checkpoint.
  std::vector<std::string> makers_of_room(const Reservation& reservation);
  /// Those that are about to leave and hold quota of that flavor.
  std::vector<std::string> makers_of_room(const Labels& flavor);

  /// When time alone may change what is decided for a job at the head of the line: gangs end, or don't when they were expected to; one
  /// that was left alone after its last preemption may be stopped again.
  Time changes_at(const Candidate& candidate, const Reservation& reservation);
  /// When the next of those that were stopped before may be stopped again; the end of time where there is none.
  Time protection_ends();

 private:
  void stop(const std::vector<std::size_t>& victims, const Candidate& candidate, const Admission::Demand& demand);

  const Cluster& cluster_;
  const Time now_;
  Room& room_;
  std::map<ObjectKey, Plan>& plans_;
  std::optional<Time> protection_ends_;
};

}  // namespace trainyard::decide
