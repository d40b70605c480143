#pragma once
// One look at one job: what is known goes in, each policy changes the status that it should have and says what is to be done, and a
// plan comes out.

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "controller/decide/conditions.h"
#include "controller/decide/plan.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {

struct Review {
  Review(const Cluster& cluster, const Job& job, Time now);
  /// By who has seen the gang already.
  Review(const Cluster& cluster, const Job& job, Time now, GangView gang);

  const Cluster& cluster;
  const Job& job;
  const Time now;
  const GangView gang;

  contract::TrainingJobStatus status;  // starts as the job's
  std::vector<Action> writes;          // go out once the status is written
  std::vector<Action> events;          // so do they, and first: what happens to the writes takes back no transition
  std::optional<Time> again;
  std::vector<std::string> reasons;
  bool holds_status = false;  // what is to be told is about to be known better: the writes go out alone
  bool is_urgent = false;     // what is to be told does not wait for its turn, though it is only words

  void set(const char* type, bool is_true, std::string reason, std::string message);
  /// What is over already needs no second look. At the end of a whole second from now, since many things wait for their turn; or, where that
  /// is long beside what is waited for, of a shorter time.
  void look_again(Time at, std::chrono::milliseconds grain = std::chrono::seconds(1));
  /// Deletes the pod, unless that was already asked for.
  void remove(const Pod& pod, std::string why);

  /// The plan: the status (at once where something changed that people wait for; numbers and messages alone, when it is their turn),
  /// then the events, then the writes. Fills in what follows from the rest of the status.
  Plan plan();
};

/// What follows from the rest: observedGeneration, phase, selector.
void complete_status(contract::TrainingJobStatus& status, const Job& job);
/// How long numbers and messages of one job wait for their turn.
std::chrono::microseconds write_interval(const Cluster& cluster);
/// When it is the job's turn to have them written.
Time numbers_due(const Cluster& cluster, const Job& job);
/// Whether the two differ in more than numbers and messages.
bool differs_in_kind(const contract::TrainingJobStatus& a, const contract::TrainingJobStatus& b);

}  // namespace trainyard::decide
