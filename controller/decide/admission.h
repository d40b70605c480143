#pragma once
// What the quotas of queues let a gang take, in one look at the line: which flavors it may have, and why none.
//
// - Who waits keeps the quota that he needs from later jobs of his queue, so that small ones don't starve him; but not from those that will
//   be over when he is expected to have it, or the nodes for which he waits.
// - The first job of a tree that waits for quota, and would have it once nobody else borrows any more, keeps it from those of other queues
//   that would borrow, too, with the same exception: else jobs of several queues would borrow in turns what they leave each other, and he
//   would wait for ever. What others use of their own is no matter of his: where they leave too little, he keeps nobody waiting.
// - A job that would borrow leaves alone what jobs of other queues of the tree that wait could take within their own quota, or within that of
//   a queue above theirs that is not above its own; and what those that are stopped for it could take back so. Else two queues could take
//   quota from each other in turns: the one by priority, the other by right. What it may have within the quota of a queue above its own
//   it leaves only to those below that queue.
// - Quota of gangs that vacate is promised to those for whom they do, in the order of the line. Who may take it within his own quota once
//   they are gone, and could not before, has it before those who would borrow it: else he would take it back by right from one that was
//   promised it a moment ago, and a third would be stopped for what the first had left.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controller/decide/line.h"
#include "controller/decide/queues.h"

namespace trainyard::decide {

struct Review;

/// What a gang holds of its queue's quota beyond what it needs is given back: it has fewer workers now.
void lower_admission(contract::TrainingJobStatus& status, const Resources& needed);
/// It holds so much more.
void raise_admission(contract::TrainingJobStatus& status, const Resources& more);

/// The pods could never be on a node with these labels.
bool contradicts(const Labels& labels, const NodeRules& rules);

class Admission {
 public:
  using Index = Queues::Index;
  /// `line`: all who wait; it must outlive this.
  Admission(const Cluster& cluster, const std::vector<Candidate>& line, Time now);

  /// What one gang asks for.
  struct Demand {
    const Job* job = nullptr;
    Index queue = -1;              // -1: it has none, and needs no quota
    bool is_charged = false;       // it holds its quota already, as a gang of which workers are missing
    Resources amounts;             // of all its workers
    std::vector<Labels> fits;      // the flavors that may be tried, in order; {} is any node
    std::vector<Labels> later;     // where there are none: those in which it has a place when others are gone
    std::optional<Charge> left{};  // what pods of its last gang hold, as one on a lost node; it goes over into what it takes
    std::optional<Time> ends{};    // when it would be over if it started now
    bool is_entitled = false;      // it waits within its queue's own quota, which nobody else may borrow then
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
  /// For how many more such pods of a job that has its place in the queue there is quota that nobody who waits is to have; `most` at most.
  std::int32_t room_for_more(Index queue, const Labels& labels, const Resources& requests, std::int32_t most) const;
  /// They are about to be made.
  void add_more(Index queue, const Labels& labels, const Resources& amounts);
  /// It waits for nodes, which it is expected to have then, and others of its queue leave it so much; so do those of other queues that would
  /// borrow.
  void keep(const Demand& demand, const Labels& labels, std::optional<Time> expected);
  /// It waits for quota.
  void wait(const Demand& demand, const Labels& labels);
  /// Whether somebody has waited for that before, in this look.
  bool is_waited_for(const Demand& demand, const Labels& labels) const {
    return find_in(waited_for_, demand.queue, labels) != nullptr;
  }
  /// Of the first that waits for it: when it is expected to have it.
  void expect(const Demand& demand, const Labels& labels, Time at);

  // ---- The quota as it will be when all gangs are gone that vacate, less what was promised of it.
  bool has_room_later(const Demand& demand, const Labels& labels);
  /// It gets what they leave, and others leave it so much until then.
  void promise(const Demand& demand, const Labels& labels);
  /// What stopping a gang would give, and back again.
  void remove(const Charge& charge);
  void put_back(const Charge& charge);
  const Charge* charge(const Job& job) const { return queues_.charge(job); }
  /// Whether it may take nodes or quota of a gang that holds `charge`, which is of lower priority or not: within its own quota it may take
  /// back what others of the tree borrow, whatever the priorities; one that borrows leaves those alone that don't.
  bool may_stop(const Demand& demand, const Labels& labels, const Charge* charge, bool is_lower);
  /// The same by right of its quota alone. It is the queue's, and those of it who wait before him have it first: else what he takes back
  /// would be theirs.
  bool may_reclaim(const Demand& demand, const Labels& labels, const Charge* charge);
  /// Whether there may be anybody of whom may_reclaim() is true.
  bool has_right(const Demand& demand, const Labels& labels);

  const Queues& queues() const { return queues_; }

 private:
  using Place = std::pair<Index, Labels>;
  template <class Value>
  using ByPlace = std::map<Place, Value, PairBefore>;
  template <class Value>
  static const Value* find_in(const ByPlace<Value>& values, Index queue, const Labels& labels) {
    const auto found = values.empty() ? values.end() : values.find(std::pair<Index, const Labels&>(queue, labels));
    return found == values.end() ? nullptr : &found->second;
  }
  /// What those of a queue wait for, who may have it later.
  struct WaitedFor {
    Resources amounts;
    std::optional<Time> expected;  // by the first of them
    Resources promised{};          // of the amounts, what later_ counts as used
    Resources open() const;
  };
  /// It has quota as part of a gang that is there or about to be. Pods of an earlier one may be left, as on a lost node: they give no right.
  static bool keeps_its_quota(const Candidate& candidate);
  bool holds_rightly(const Job& job, const Charge& charge);
  void change(Queues& ledger, Index queue, const Labels& labels, const Resources& amounts, bool adds) const;
  void move(Queues& ledger, const Charge& charge, bool adds) const;
  Resources uncounted(Index queue, const Labels& labels, const Resources& amounts, const Charge* left) const;
  Resources kept_from(const Demand& demand, const Labels& labels, bool later) const;
  Resources with_those_before(const Demand& demand, const Labels& labels) const;
  bool has_room(Queues& ledger, const Demand& demand, const Labels& labels) const;
  bool leaves_others_theirs_now(const Demand& demand, const Labels& labels) const;
  bool leaves_others_theirs_later(Queues& ledger, const Demand& demand, const Labels& labels) const;
  std::string others_before(const Demand& demand, const Labels& labels) const;
  bool leaves_others_theirs(const Queues& claimed, const Demand& demand, const Labels& labels) const;
  void entitle(const std::vector<Candidate>& line);
  bool entitle(const Candidate& candidate, Index queue, Index within, Queues& all);
  bool may_ever_have(const Candidate& candidate, Index queue) const;
  void give_up_right(const ObjectKey& key, const Labels& labels);
  template <class Takes>
  void offer(Index queue, const Labels& labels, Takes takes) const;
  Resources entitled_later(const Queues& ledger, Index queue, const Labels& labels) const;
  bool some_are_stopped(Index queue) const;
  void count_stopped(Index queue, int more);
  void let_leave();
  Queues::Claim claim(const Demand& demand, const Labels& labels, const Charge& charge, const Resources& amounts);

  const Cluster& cluster_;
  const Time now_;
  mutable Queues queues_;   // what-ifs change it and change it back
  Queues later_;            // the same without what gangs hold that are about to go, and with what was promised of it
  mutable Queues claimed_;  // without these, too, and as if what entitled_, heads_ and ahead_ say were used
  ByPlace<std::vector<WaitedFor>> kept_;  // for who waits before
  ByPlace<Resources> promised_;           // of that, what later_ counts as used
  ByPlace<WaitedFor> waited_for_;
  ByPlace<Resources> entitled_;           // to who waits, or will, within the quota of his own queue
  ByPlace<Resources> entitled_below_;     // to those of queues below that one, within its quota, who have no such right
  ByPlace<Resources> entitled_promised_;  // of entitled_, what later_ counts as used
  struct Entitlement {
    Place place;
    bool is_own = false;  // of his own queue
    Resources amounts;    // that it counts
  };
  std::map<ObjectKey, Entitlement> entitlements_;
  std::map<Index, std::vector<const Candidate*>> waiting_;  // by queue, in the order of the line, which outlives this
  std::set<const Job*> settled_;                            // of them those that have started or are promised quota, in this look
  std::map<Index, std::vector<const Charge*>>
      stopped_;                                       // by queue: what gangs hold that make room for others, and will wait again
  std::map<Index, int> num_stopped_;                  // of the queue and those below it
  mutable ByPlace<Resources> known_later_;            // what entitled_later() found, until anything changes that
  ByPlace<WaitedFor> heads_;                          // to the first of a tree that waits for quota
  ByPlace<WaitedFor> ahead_;                          // to who waits for nodes or was promised it, not within his own quota
  std::set<Place, PairBefore> trees_with_a_head_;     // by root
  mutable ByPlace<std::vector<Resources>> too_much_;  // amounts that would take away what others are to have
};

/// Into the status: what the gang holds from now on, where it takes quota.
void admit(Review& review, const Queues& queues, const Admission::Demand& demand, const Labels& flavor);

}  // namespace trainyard::decide
