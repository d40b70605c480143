#pragma once
// The insides of worker pods in virtual time: the real agent (AgentCore) over ranks that only pretend to train, yet meet, step,
// checkpoint, crash and lose each other as real ones do. What happened is kept, as the truth that a status is compared with.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "crds/contract/state.h"
#include "tests/support/virtual_time.h"
#include "worker/agent/agent_core.h"

namespace trainyard::test {

/// A job's training as it really went.
struct Truth {
  std::int64_t step = 0;             // the last one done by anybody
  std::int64_t most_steps = 0;       // the greatest `step` ever
  std::int64_t checkpoint = 0;       // what a restart begins from
  std::int64_t generation = 0;       // the highest that ever did a step
  std::int64_t generations_run = 0;  // so many generations did a step
  bool finished = false;
  std::vector<std::string> violations;
};

class FakeWorkers {
 public:
  struct Pace {
    milliseconds step{500};
    milliseconds start_low{100}, start_high{3'000};  // from a rank's start until it meets the others
    milliseconds end_high{200};                      // from the last step until a rank ends,
    milliseconds reap_high{100};                     // from there until its agent hears of it,
    milliseconds exit_high{200};                     // and from an agent's decision to end until its container has
    bool from_start = false;  // steps count from the start of the last container: what ranks had to wait for is made up
  };
  explicit FakeWorkers(VirtualTime& time) : time_(time) {}
  Pace pace;
  agent::Limits limits;

  // ---- The kubelet's side.
  struct Container {
    std::string pod_uid, node, address, key;
  };
  void start(const Container& container);
  /// SIGTERM.
  void terminate(const std::string& pod_uid);
  /// SIGKILL to all processes, or the power goes: no word is left.
  void kill(const std::string& pod_uid);
  bool is_running(const std::string& pod_uid) const { return agents_.contains(pod_uid); }
  /// A container ended by itself.
  std::function<void(const std::string& pod_uid, int exit_code, const std::string& message)> exited;

  // ---- The network's side: what a controller's request meets. `why` is set where the agent can't be reached, or has another key.
  static constexpr const char* kKeysDiffer = "GET /v1/state: 401";
  std::optional<contract::State> state(const std::string& pod_uid, const std::string& address, const std::string& key,
                                       std::string& why) const;
  /// Of a container that runs. What it is assigned goes through assign().
  agent::AgentCore& core(const std::string& pod_uid) { return *agents_.at(pod_uid).core; }
  void asked(const std::string& pod_uid) { core(pod_uid).asked(now()); }
  agent::Answer assign(const std::string& pod_uid, const contract::Assignment& assignment);
  void on_change(std::function<void(const std::string& pod_uid)> call) { listeners_.push_back(std::move(call)); }
  /// Nobody outside reaches the node, nor it anybody.
  void cut_off(const std::string& node) { cut_off_.insert(node); }
  void join(const std::string& node) {
    if (cut_off_.erase(node) > 0) joined_at_[node] = time_.uptime();
  }
  void hide(const std::string& pod_uid) { hidden_.insert(pod_uid); }
  void show(const std::string& pod_uid) { hidden_.erase(pod_uid); }

  // ---- Faults inside.
  /// One of the pod's ranks ends so; false where none runs.
  bool crash(const std::string& pod_uid, int exit_code, int signal, const std::string& last_line = "a last line");
  /// Every rank of the job ends with this as soon as it starts.
  void spoil(const std::string& job_uid, contract::Failure failure) { spoilt_[job_uid] = std::move(failure); }

  const Truth& truth(const std::string& job_uid) { return truths_[job_uid]; }
  const std::map<std::string, Truth>& truths() const { return truths_; }
  std::vector<std::string> running_pods() const;

 private:
  using RunKey = std::pair<std::string, std::int64_t>;  // job UID, generation
  struct Rank {
    contract::RankConfig config;
    contract::RankControl control;
    bool met = false;  // the others
    std::uint64_t number = 0;
  };
  struct Agent {
    Container container;
    std::unique_ptr<agent::AgentCore> core;
    std::map<std::int32_t, Rank> ranks;
    milliseconds started{0};
    bool exiting = false;
  };
  struct Run {
    std::map<std::int32_t, std::string> members;  // rank -> pod
    std::int32_t world_size = 0;
    std::int64_t step = 0;
    std::int64_t request_done = 0;
    bool ticking = false;
    milliseconds due{0};                                    // when the step under way ends
    std::shared_ptr<const contract::TrainingJobSpec> spec;  // once it has begun
  };

  agent::Now now() const { return {.uptime = time_.uptime(), .wall = time_.now()}; }
  void act(const std::string& pod_uid, const agent::Actions& actions);
  void start_rank(const std::string& pod_uid, const agent::StartRank& action);
  void meet(const std::string& pod_uid, std::int32_t rank, std::uint64_t number);
  void tick(const RunKey& key);
  void tick_later(const RunKey& key, Run& run);
  void after_step(const RunKey& key, Run& run, const contract::TrainingJobSpec& spec);
  void checkpoint(const RunKey& key, Run& run, const contract::TrainingJobSpec& spec, std::optional<std::int64_t> request);
  void end_all(const RunKey& key, int exit_code);
  void lose_peer(const RunKey& key);
  void end_later(const std::string& pod_uid, std::int32_t index, int exit_code, milliseconds at_most);
  /// The rank's process ends; its agent hears of it.
  void end_rank(const std::string& pod_uid, std::int32_t rank, const agent::RankExit& exit);
  void leave(const std::string& pod_uid, const Rank& rank);
  void report(const std::string& pod_uid, std::int32_t rank, const contract::Report& report);
  /// Nobody can have told the agent that its gang was replaced: its node is cut off, or was until its kubelet looks again, and no controller
  /// reaches the agent either.
  bool is_out_of_reach(const std::string& pod_uid) const;
  void check(const RunKey& key, const Run& run);
  void set_timer(const std::string& pod_uid);
  bool is_split(const Run& run) const;

  VirtualTime& time_;
  std::map<std::string, Agent> agents_;
  std::map<RunKey, Run> runs_;
  std::map<std::string, Truth> truths_;
  std::map<std::string, contract::Failure> spoilt_;
  std::set<std::string> cut_off_, hidden_;
  std::map<std::string, milliseconds> joined_at_;  // by node: when it was cut off no more
  std::vector<std::function<void(const std::string&)>> listeners_;
  std::uint64_t numbers_ = 0;
};

}  // namespace trainyard::test
