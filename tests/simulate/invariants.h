#pragma once
// What must hold at every moment of every simulation (docs/architecture.md).

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/simulate/cpu_quota.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {

/// Looks at every write to jobs and pods as it happens, and at the whole now and then; collects what is wrong, and when.
class Invariants {
 public:
  explicit Invariants(World& world);
  /// Of several gangs that make room together all are told so within this time, after which each is judged.
  static constexpr milliseconds kTogether{30};
  /// A gang may be partial for this long more than its start timeout, for what the faults of a story add.
  seconds partial_slack{150};
  /// A pod may be made long after its maker gave the request up, on a node that is taken since: the kubelet then rejects it.
  std::set<std::string> late_pods;  // ns/name
  /// So may one be that is larger than it was when the API server was asked about it.
  bool admission_changes = false;
  /// Of the one tree of queues of the story, where it has one.
  CpuQuota quota;
  /// What a controller decides on, or writes, may be as old as this: watches lag behind, a process that was frozen wakes up, a request
  /// arrives long after it was given up.
  seconds staleness{15};
  std::vector<std::string> violations() const;
  int num_jobs_seen() const { return static_cast<int>(jobs_.size()); }
  /// So many gangs were told to make room while it was clear what room there was.
  int num_victims_judged() const { return num_victims_judged_; }

 private:
  struct Seen {
    decide::Job job;
    milliseconds partial_since{-1};
    int highest_priority = 0;  // of its class, of all that it ever had
    int lowest_priority = 0;
    std::int64_t rewound = 1;  // one, and how often the step that the status told of went back
  };
  /// A pod that is not finished.
  struct Live {
    std::string name;     // ns/name
    std::string job_uid;  // empty: none of ours
    std::string node;     // where it is, or is to be
    decide::Resources requests;
    bool dying = false;
    bool spare = false;  // made as one
  };
  void check_size(const Seen* before, const Seen& after);
  void check_stand_ins(const std::string& uid, const Seen* before, const Seen& after);
  void check_admission(const Seen& after);
  void job_changed(const test::FakeKubeApi::Change& change);
  int priority_of(const contract::TrainingJobSpec& spec) const;
  void compare(const std::string& uid, const Seen& before, Seen& after);
  void pod_changed(const test::FakeKubeApi::Change& change);
  void check_new_pod(const decide::Pod& pod, const Json& spec);
  void check_victim(const std::string& uid, const Seen& victim);
  bool is_needed(const std::string& uid, const Seen& victim) const;
  /// Of all nodes that are well: cpus that are free, and GPUs that have one beside them.
  struct Free {
    std::int64_t cpus = 0, gpus = 0;
  };
  /// Once those have gone that are about to go, and the job with that UID.
  Free free_without(const std::string& job_uid) const;
  CpuQuota::Held held(bool by_those_that_go_too) const;
  void relieved() { relieved_at_ = world_.time.uptime(); }
  void check_quota();
  void watch_partial_gangs();
  void fail(const std::string& what);

  World& world_;
  std::map<std::string, Seen> jobs_;                                                    // by UID
  std::map<std::tuple<std::string, int, std::int64_t>, std::set<std::string>> places_;  // job UID, worker, generation -> pods
  std::map<std::string, Live> pods_;                                                    // by UID
  std::map<std::string, milliseconds> rejections_;                                      // by node: the last one
  std::map<std::string, Json> queue_specs_;                                             // by name
  milliseconds relieved_at_{0};  // when last something may have made more room, or made somebody need less
  std::map<std::string, std::map<std::string, int>> stand_ins_;  // job UID -> pod -> the one worker whose place it has
  bool jobs_were_deleted_ = false;
  int num_victims_judged_ = 0;
  std::vector<std::string> violations_;
};

}  // namespace trainyard::simulate
