#pragma once
// A story made up by a seed: a cluster, some jobs, one to three controllers, and two minutes in which everything may go wrong.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {

class RandomStory {
 public:
  explicit RandomStory(std::uint64_t seed);
  /// What went wrong; empty: nothing did. `trace` writes what happens to standard error.
  std::vector<std::string> run(bool trace = false);
  int num_victims_judged() const { return invariants_.num_victims_judged(); }
  std::int64_t num_tasks() const { return world_.time.num_tasks_run(); }

 private:
  struct Fault {
    const char* name;
    void (RandomStory::*cause)();
  };
  void trace_writes();
  void set_up();
  void add_job();
  void add_claim_of(JobShape& shape);
  void add_queues();
  std::string random_leaf();
  void set_up_requests();
  void set_up_watches(int controller);
  void next_fault();
  void settle();
  bool all_settled() const;
  /// In the empty cluster.
  bool fits(const JobShape& job) const {
    return (job.least > 0 ? job.least : job.workers) <= num_nodes_ * (job.gpus > 0 ? gpus_ : cpus_);
  }
  void check_end();
  void check_head();
  void next_small_job();
  void say(const std::string& what) const;
  int random(int low, int high) { return static_cast<int>(world_.time.random(low, high)); }
  std::string random_job();
  std::string random_node();
  std::string random_pod();

  void kill_controller();
  void freeze_controller();
  void crash_rank();
  void kill_node();
  void cut_off_node();
  void delete_pod();
  void take_api_away();
  void suspend_job();
  void delete_job();
  void break_watch();
  void add_foreign_pod();
  void reject_pods();
  void hide_agent();
  void refuse_pods();
  void use_up_quota();
  void edit_job();
  void edit_priority();
  void scale_job();
  void edit_spares();
  void break_gpu();
  void taint_node();
  void sicken_node();
  void mend_nodes();
  void stop_queue();

  World world_;
  Invariants invariants_{world_};
  std::vector<JobShape> jobs_;
  std::vector<std::string> deleted_, problems_;
  int num_nodes_ = 0, cpus_ = 0, gpus_ = 0;
  int fault_rate_ = 0;          // of requests: one in so many; 0: none
  int crash_after_writes_ = 0;  // the leader dies after so many more writes; 0: never
  test::FakeWatcher::Delay watch_delay_;
  bool faults_over_ = false;
  bool trace_ = false;
  int names_ = 0;
  bool is_crowded_ = false;  // small jobs without end come once all others are over
  milliseconds small_jobs_end_{0};
};

}  // namespace trainyard::simulate
