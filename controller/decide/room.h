#pragma once
// The room in one look at the line: what is free of nodes and quota, what of it is kept for whom, and what is taken of it in the course of
// the look. What is free only shrinks.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "controller/decide/admission.h"
#include "controller/decide/failed_searches.h"
#include "controller/decide/line.h"
#include "controller/decide/reservation.h"

namespace trainyard::decide {

class Room {
 public:
  /// `line`: all who wait.
  Room(const Cluster& cluster, const std::vector<Candidate>& line, Time now);

  /// For a gang of one size.
  struct Place {
    Admission::Demand demand{};
    Labels flavor{};
    std::vector<std::string> nodes{};    // of the missing workers
    std::optional<DeviceNeed> device{};  // of these nodes
    bool is_there = false;
    std::int64_t fit = 0;               // where it is not: so many of them would have found one
    std::int32_t room_beside = 0;       // where it is: for so many spares there is room in the same domain
    std::vector<std::string> spares{};  // of its spares (spare_places.h)
  };
  /// Quota, and nodes for all that are missing, once those have gone that are in the way; none of `avoided`.
  Place find(const Candidate& candidate, const std::vector<Reservation*>& binding, const std::set<std::string>& avoided);
  std::variant<Placement, NoRoom> search(const Gang& gang, const std::vector<Reservation*>& binding);
  /// For the gang's NodeRules::device, as device_need() of memory_fit.h. That takes as long as a search, so it is reckoned once for all jobs
  /// of a layout, and once in a job's life. Nothing where it has trained with as few workers: that tells more than what is foretold.
  std::optional<DeviceNeed> need_of(const Candidate& candidate);
  /// So many searches were in vain.
  std::int64_t num_vain() const { return num_vain_; }
  void take(const Candidate& candidate, const std::vector<std::string>& nodes, const std::vector<Reservation*>& binding);

  const Topology& topology() const { return topology_; }
  Admission& admission() { return admission_; }
  const Admission& admission() const { return admission_; }

  /// What gangs hold, those that were placed in this look among them.
  std::vector<Holding>& held();
  /// The gang is to stop, and will be gone when its checkpoint is written.
  void stop(Holding& victim);
  bool is_stopped(const Job& job) const { return victims_.contains(&job); }
  /// It leaves its nodes, by what was decided before or in this look.
  bool is_leaving(const Holding& holding) const;
  /// Tells at once where nobody can be stopped for it, as mostly where all are of one priority. `has_right`: to what others borrow.
  bool may_stop_some(const Candidate& candidate, bool has_right);
  /// Whose end would make room (choose_victims() of preemption.h).
  std::vector<std::size_t> victims_for(const Candidate& candidate, const Gang& gang, const Admission::Demand& demand,
                                       const Labels& flavor, bool by_right);

  /// So many at the head of the line have room kept for them. Each costs a search, and more of them leave fewer holes to fill.
  static constexpr std::size_t kReservations = 4;
  bool keeps_some() const { return !reservations_.empty(); }
  bool keeps_no_more() const { return num_kept_ >= kReservations; }
  /// So many more have a right to quota that others borrow, or that those leave already for their sake. How many a look can afford: the others'
  /// turn comes once these have theirs.
  std::size_t most_by_right() const;
  bool keeps_no_more_by_right() const { return reservations_.size() - num_kept_ >= most_by_right(); }
  /// Nothing where there will never be room, as far as one can see.
  std::optional<Reservation> reserve_for(const Candidate& candidate, const Gang& gang);
  /// It is known that reserve_for() finds nothing for its gang on such nodes; told without making it. False where nobody knows yet.
  bool is_hopeless(const Candidate& candidate, const Labels& flavor);
  void keep(Reservation reservation, bool by_right = false);
  /// When gangs are expected to have left it the quota, in the order of their ends. Nothing where nobody can know.
  std::optional<Time> quota_expected(const Admission::Demand& demand, const Labels& flavor);
  /// What the job has to leave alone.
  std::vector<Reservation*> binding_for(const Job& job);

 private:
  void give_or_take(const Pod& pod, bool gives);
  void mark_as_leaving(Holding& holding) const;
  std::uint64_t bits_of(const std::vector<Reservation*>& binding) const;
  const NoRoom* known_failure(const Candidate& candidate, const std::vector<Reservation*>& binding);

  const Cluster& cluster_;
  const Time now_;
  Topology topology_;
  Admission admission_;
  FailedSearches failed_;                        // for room now
  std::int64_t num_vain_ = 0;                    // such searches
  FailedSearches hopeless_;                      // for room when all gangs are gone
  std::vector<Reservation> reservations_;        // in the order of the line
  std::size_t num_kept_ = 0;                     // of them, those that are not by right
  std::optional<std::vector<Holding>> held_;     // once somebody finds no room
  std::vector<Holding> placed_;                  // in this look
  std::set<const Job*> victims_;                 // in this look
  std::optional<std::int32_t> lowest_priority_;  // of the gangs that run
  struct QuotaEnd {
    Time at;
    Admission::Index queue;
    const Charge* charge;
  };
  std::optional<std::vector<QuotaEnd>> quota_ends_;  // of gangs whose end is known, in its order; once somebody waits for quota
  std::unordered_map<std::string, std::optional<DeviceNeed>> needs_;  // by layout_key()
};

/// Why there is no place for the gang, sparing those nodes.
std::string why_not(const Candidate& candidate, const Room::Place& place, const std::set<std::string>& avoided);

Gang limited(Gang gang, const std::vector<Reservation*>& binding);
Gang sparing(Gang gang, const std::set<std::string>& nodes);

}  // namespace trainyard::decide
