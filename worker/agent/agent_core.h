#pragma once
// What an agent does, as a state machine without processes, sockets or clocks: events come in as calls, what is to be done goes out as
// actions. agent.h performs them. Every rule of crds/contract/assignment.h and state.h that an agent keeps is kept here.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "crds/contract/assignment.h"
#include "crds/contract/state.h"
#include "worker/agent/rank_exit.h"

namespace trainyard::agent {

struct Limits {
  std::chrono::milliseconds grace{110'000};     // from SIGTERM or an earlier order to stop until ranks that run are killed
  std::chrono::milliseconds step_grace{5'000};  // from SIGTERM instead, where there is no checkpoint to be written
  std::chrono::milliseconds linger{60'000};     // so long the state is served after an end that was wanted, unless released
  /// So long an agent whose ranks ended otherwise waits for a controller to ask. So does one that was asked after a stop that was wanted: the
  /// gang may be about to go on with more workers, whose pods have an image to pull.
  std::chrono::milliseconds abandoned{600'000};
  std::chrono::milliseconds progress_interval{500};  // progress alone makes a new version at most so often; all else at once
  // So long a hang is only suspected: an agent that did not run itself for a while has words of its ranks yet to read.
  std::chrono::milliseconds hang_doubt{1'000};
  std::chrono::milliseconds unkillable{10'000};  // from SIGKILL to a rank that hangs until it is told that not even that ends it
};

/// `uptime` never goes back and counts for deadlines; `wall` is what people read.
struct Now {
  std::chrono::milliseconds uptime{0};
  contract::Time wall{};
};

struct StartRank {
  contract::RankConfig config;
  contract::RankControl control;  // its second line of input
  bool operator==(const StartRank&) const = default;
};
/// SIGKILL to the rank's process group. The exit comes back as an event.
struct KillRank {
  std::int32_t rank = 0;
  bool operator==(const KillRank&) const = default;
};
struct SendControl {
  std::int32_t rank = 0;
  contract::RankControl control;
  bool operator==(const SendControl&) const = default;
};
/// state() has a new version: answer those who wait for one.
struct Publish {
  bool operator==(const Publish&) const = default;
};
/// The agent ends; state() is its last word.
struct Exit {
  int code = 0;
  bool operator==(const Exit&) const = default;
};
using Action = std::variant<StartRank, KillRank, SendControl, Publish, Exit>;
using Actions = std::vector<Action>;

/// What the ranks last measured. Not part of the state: only /metrics and the pod's log tell it.
struct Measured {
  std::map<std::int32_t, contract::Measures> of_rank;
  std::optional<std::int32_t> reporting_rank;  // the one that reports progress, where this agent has it
};

/// How an assignment was taken: 200, 400 (it makes no sense) or 409 (it is older than, or contradicts, the one that is there).
struct Answer {
  unsigned status = 200;
  std::string message;
  Actions actions;
};

class AgentCore {
 public:
  AgentCore(Worker worker, Limits limits);

  /// `unknown`: what of the assignment's spec this program does not know. Then it takes the generation without starting a rank, and fails.
  Answer assign(const contract::Assignment& assignment, Now now, const std::vector<contract::Problem>& unknown = {});
  /// A line that a rank wrote to its report descriptor.
  Actions reported(std::int32_t rank, const contract::Report& report, Now now);
  /// Ranks that were reaped. Those found at the same moment come together, so that the first cause is told from what follows it.
  Actions exited(const std::vector<RankExit>& exits, Now now);
  /// A controller asked for the state. One that never does can't reach this agent, or has another key: where the ranks have failed, the agent
  /// ends after Limits::abandoned, so that its last word is found in its pod and the pod takes up no room in vain.
  void asked(Now now);
  /// SIGTERM: ranks are asked for a checkpoint and to stop, and are killed when the grace is over. It is long for the checkpoint's sake:
  /// ranks whose stop was ordered earlier have had a part of it, and those that write no checkpoint have nothing to lose.
  Actions terminate(Now now);
  /// To be called at deadline(); early calls do no harm.
  Actions tick(Now now);
  std::optional<std::chrono::milliseconds> deadline() const;

  /// Changes only with a Publish.
  const contract::State& state() const { return state_; }
  std::int64_t ranks_started() const { return ranks_started_; }
  std::int64_t ranks_failed() const { return ranks_failed_; }
  const Measured& measured() const { return measured_; }

 private:
  struct RankRecord {
    bool alive = false;
    bool killed = false;                        // by this agent: its SIGKILL is no evidence
    std::optional<int> exit_code;               // where it ended by itself
    std::optional<contract::Failure> reported;  // what it said of its own end
    std::optional<contract::RankActivity> activity;
    std::chrono::milliseconds heard_at{0};  // when it told that
    std::chrono::milliseconds moved_at{0};  // when its mark last grew
  };

  Answer amend(const contract::Assignment& assignment, Now now);
  void adopt(const contract::Assignment& assignment, Now now, Actions& actions);
  void start_ranks(Now now, Actions& actions);
  void kill_ranks(Actions& actions);
  void send_control(Actions& actions) const;
  void note_exit(const RankExit& exit, Now now);
  void all_ended(Now now, Actions& actions);
  void maybe_exit(Actions& actions);
  void publish(Now now, Actions& actions);
  bool any_alive() const;
  bool keeps_checkpoints() const { return assignment_->spec.checkpoint.has_value(); }
  contract::Failure grace_exceeded(Now now) const;
  void note_activity(RankRecord& record, const contract::RankActivity& activity, Now now, Actions& actions);
  /// So long a rank may show no sign of progress; nothing where no limit was set, or it has told nothing yet.
  std::optional<std::chrono::milliseconds> patience_with(const RankRecord& record) const;
  /// When a rank that shows no sign of progress until then hangs. One that waits in a call has the limit twice: the agent of the rank that it
  /// waits for comes first, and that rank may be slow and no more.
  std::optional<std::chrono::milliseconds> first_hangs_at() const;
  /// Halfway to the limit others may hear of it, so that whoever sees all agents knows all ranks before the first of them is killed.
  std::optional<std::chrono::milliseconds> first_stands_still_at() const;
  /// Unless those at fault are this agent's own, and move.
  void end_hang(Now now, Actions& actions);
  void tell_of_unkillable(Now now, Actions& actions);
  std::vector<contract::RankActivity> activities(Now now) const;
  /// Ranks that failed, or stopped since another worker is drained, wait for the next generation instead.
  bool ended_as_wanted() const;
  bool ranks_are_current() const { return assignment_ && ranks_generation_ == assignment_->generation; }
  contract::RankControl control() const;

  Worker worker_;
  Limits limits_;
  contract::State state_;
  std::optional<contract::Assignment> assignment_;
  std::map<std::int32_t, RankRecord> ranks_;  // those started last; of an older generation until all of them are gone
  std::int64_t ranks_generation_ = 0;
  std::optional<contract::RankControl> last_wish_;  // after SIGTERM, in place of the assignment's
  std::optional<contract::Failure> failure_;        // the first cause so far; in the state once all ranks are gone
  bool failure_is_secondary_ = false;
  std::optional<contract::Failure> outdated_;  // why the assignment's ranks are not started
  bool terminating_ = false;
  std::optional<contract::Progress> unpublished_progress_;
  std::chrono::milliseconds published_at_{0};
  std::optional<std::chrono::milliseconds> exit_at_;
  std::optional<std::chrono::milliseconds> kill_at_;
  std::optional<std::chrono::milliseconds> stop_ordered_at_;  // by the assignment
  std::optional<std::chrono::milliseconds> hang_suspected_at_;
  std::optional<std::chrono::milliseconds> killed_by_;  // ranks that hung should be gone by then
  std::vector<contract::RankActivity> evidence_;        // what the ranks did when the first of them failed
  Measured measured_;
  std::int64_t last_notice_ = 0;
  std::int64_t ranks_started_ = 0;
  std::int64_t ranks_failed_ = 0;
};

}  // namespace trainyard::agent
