#pragma once
// What the quotas of queues let a gang take, in one look at the line: which flavors it may have, and why none.
//
// - Who waits keeps the quota that he needs from later jobs of his queue, so that small ones don't starve him.
// - A job that would borrow leaves alone what jobs of other queues of the tree that wait could take within their own quota. Else two
//   queues could take quota from each other in turns: the one by priority, the other by right.
// - Quota of gangs that vacate is promised to those for whom they do, in the order of the line.

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controller/decide/line.h"
#include "controller/decide/queues.h"

namespace trainyard::decide {

struct Review;

/// What a gang holds of its queue's quota beyond what it needs is given back: it has fewer workers now.
void lower_admission(contract::TrainingJobStatus& status, const Resources& needed);

class Admission {
 public:
  using Index = Queues::Index;
  /// `line`: all who wait.
  Admission(const Cluster& cluster, const std::vector<Candidate>& line);

  /// What one gang asks for.
  struct Demand {
    Index queue = -1;              // -1: it has none, and needs no quota
    bool is_charged = false;       // it holds its quota already, as a gang of which workers are missing
    Resources amounts;             // of all its workers
    std::vector<Labels> fits;      // the flavors that may be tried, in order; {} is any node
    std::vector<Labels> later;     // where there are none: those in which it has a place when others are gone
    std::optional<Charge> left{};  // what pods of its last gang hold, as one on a lost node; it goes over into what it takes
    bool takes_quota() const { return queue >= 0 && !is_charged; }
  };
  /// One that was admitted and has no pod yet is asked again: where the answer to the write of its status was lost, another may have
  /// been given its quota meanwhile.
  Demand demand(const Candidate& candidate, const PodNeeds& needs);
  /// Of what it asks for, as part of that flavor: what its queue does not count yet.
  Resources uncounted(const Demand& demand, const Labels& labels) const;
  /// Why it fits none; the reason is that of the conditions Admitted and Placed.
  struct Refusal {
    const char* reason;
    std::string message;
  };
  Refusal why_not(const Job& job, const PodNeeds& needs, const Demand& demand) const;

  /// It is about to start.
  void start(const Job& job, const Demand& demand, const Labels& labels);
  /// It waits, for quota or for nodes, and others of its queue leave it so much.
  void keep(const Demand& demand, const Labels& labels);

  // ---- The quota as it will be when all gangs are gone that vacate, less what was promised of it.
  bool has_room_later(const Demand& demand, const Labels& labels);
  /// It gets what they leave, and others of its queue leave it so much until then.
  void promise(const Demand& demand, const Labels& labels);
  /// What stopping a gang would give, and back again.
  void remove(const Charge& charge);
  void put_back(const Charge& charge);
  const Charge* charge(const Job& job) const { return queues_.charge(job); }
  /// Whether it may take nodes or quota of a gang that holds `charge`, which is of lower priority or not: within its own quota it may take
  /// back what others of the tree borrow, whatever the priorities; one that borrows leaves those alone that don't.
  bool may_stop(const Demand& demand, const Labels& labels, const Charge* charge, bool is_lower);
  /// The same by right of its quota alone.
  bool may_reclaim(const Demand& demand, const Labels& labels, const Charge* charge);

  const Queues& queues() const { return queues_; }

 private:
  using Place = std::pair<Index, Labels>;
  bool holds_rightly(const Job& job, const Charge& charge);
  void move(Queues& ledger, const Charge& charge, bool adds) const;
  Resources uncounted(const Place& place, const Resources& amounts, const Charge* left) const;
  bool has_room(Queues& ledger, const Demand& demand, const Labels& labels) const;
  bool leaves_others_theirs(Queues& ledger, const Demand& demand, const Labels& labels) const;
  void entitle(const std::vector<Candidate>& line);
  Queues& later();
  Queues::Claim claim(const Demand& demand, const Labels& labels, const Charge& charge);

  const Cluster& cluster_;
  mutable Queues queues_;  // what-ifs change it and change it back
  std::optional<Queues> later_;
  std::map<Place, Resources> kept_;      // for who waits before
  std::map<Place, Resources> promised_;  // of that, what later_ counts as used
  std::map<Place, Resources> entitled_;  // to who waits within his own quota
  std::map<ObjectKey, std::pair<Place, Resources>> entitlements_;
  mutable std::map<Place, std::vector<Resources>> too_much_;  // amounts that would take away what others are entitled to
};

/// Into the status: what the gang holds from now on, where it takes quota.
void admit(Review& review, const Queues& queues, const Admission::Demand& demand, const Labels& flavor);

}  // namespace trainyard::decide
