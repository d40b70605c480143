#pragma once
// What an agent answers: GET /v1/state?after=<version>&waitSeconds=<n> answers at once when its version differs from `after`, else
// when it changes, or after n seconds (at most 30). The same JSON, trimmed, is the container's termination message.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::contract {

enum class AgentPhase {
  kIdle,       // no assignment yet, or one without ranks
  kStarting,   // ranks of this generation were started; no step done yet
  kRunning,    // at least one step was done
  kStopped,    // stopAfter was obeyed (or SIGTERM): every rank ended with exit code kStoppedExitCode
  kSucceeded,  // every rank ended with exit code 0: all steps are done
  kFailed      // a rank ended otherwise; all ranks of this agent are gone; `failure` says why. A higher generation starts anew
};
constexpr auto enum_names(AgentPhase) {
  return std::to_array<std::string_view>({"Idle", "Starting", "Running", "Stopped", "Succeeded", "Failed"});
}

// A rank's exit codes. Everything else, and every signal, is a crash.
inline constexpr int kFinishedExitCode = 0;
inline constexpr int kUserErrorExitCode = 2;     // the manifest, the data or the volumes are at fault: a restart can't help
inline constexpr int kStoppedExitCode = 75;      // stopped as asked, after the checkpoint (EX_TEMPFAIL)
inline constexpr int kPeerLostExitCode = 76;     // a collective failed because of another rank: not the first cause
inline constexpr int kEngineErrorExitCode = 70;  // an exception of the engine (EX_SOFTWARE)

/// A checkpoint that was asked for by an assignment's checkpointRequest.
struct Checkpointed {
  std::int64_t request = 0;
  std::int64_t step = 0;
  bool durable = false;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("request", self.request);
    field("step", self.step);
    field("durable", self.durable);
  }
  bool operator==(const Checkpointed&) const = default;
};

/// Something a user should hear of though training goes on: `CheckpointCorrupt`, `CheckpointFailed`, `Resumed`. Becomes an event.
struct Notice {
  std::int64_t number = 0;  // 1, 2, … within a pod: an event is made once a number
  bool warning = false;
  std::string reason;
  std::string message;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("number", self.number);
    field("warning", self.warning);
    field("reason", self.reason);
    field("message", self.message);
  }
  bool operator==(const Notice&) const = default;
};

/// A call of a group of ranks. All ranks of a group make the same calls in the same order, so its number tells who has not come to it.
struct GroupCall {
  std::string group;                 // world, data, tensor, pipeline, activations, gradients, …: Mesh::Comms
  std::string operation;             // all_reduce, receive, …
  std::int64_t number = 0;           // of the group, from 1
  std::int64_t elements = 0;         // of this rank's tensor
  std::optional<std::int32_t> peer;  // the rank at the other end of a send or receive
  double seconds = 0;                // since it was begun

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("group", self.group);
    field("operation", self.operation);
    field("number", self.number);
    field("elements", self.elements);
    field("peer", self.peer);
    field("seconds", self.seconds);
  }
  bool operator==(const GroupCall&) const = default;
};

/// What a rank does: told every second by its process, so that it can be seen where a gang hangs, and because of whom (hang.h).
struct RankActivity {
  std::int32_t rank = 0;
  std::int64_t step = 0;                        // the last that was done
  std::int64_t mark = 0;                        // grows with everything that the rank begins or ends
  bool warm = false;                            // a step was done since the process began
  std::string doing;                            // forward, backward, evaluation, checkpoint, …; empty: nothing that has a name
  std::optional<GroupCall> call;                // that it waits in
  std::map<std::string, std::int64_t> started;  // by group: the number of its last call
  double stillSeconds = 0;                      // added by the agent: since `mark` last grew
  double silentSeconds = 0;                     // added by the agent: since the process told this

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("rank", self.rank);
    field("step", self.step);
    field("mark", self.mark);
    field("warm", self.warm);
    field("doing", self.doing);
    field("call", self.call);
    field("started", self.started);
    field("stillSeconds", self.stillSeconds);
    field("silentSeconds", self.silentSeconds);
  }
  bool operator==(const RankActivity&) const = default;
};

/// Where the time of one rank's step went, in seconds; the parts add up to the whole.
struct StepTimes {
  double seconds = 0;                           // from the end of the step before to its own
  double compute = 0;                           // all that is none of the following; an evaluation that follows the step is in it
  double data = 0;                              // waiting for samples
  double checkpoint = 0;                        // the training thread's part of a save that the step before began
  std::map<std::string, double> communication;  // exposed: waiting for a group, by axis (data, tensor, pipeline, world)

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("seconds", self.seconds);
    field("compute", self.compute);
    field("data", self.data);
    field("checkpoint", self.checkpoint);
    field("communication", self.communication);
  }
  bool operator==(const StepTimes&) const = default;
};

/// What is measured beside Progress, for logs and metrics: the status has what a person watches.
struct Measures {
  std::optional<StepTimes> times;
  std::optional<std::int64_t> memoryPeakBytes;  // of this rank, since it began
  std::optional<double> lossZScore;             // of the last step, against the 128 before it
  std::optional<double> gradientNormZScore;
  std::optional<double> modelFlopsPerSecond;     // of one device: the model's own arithmetic
  std::optional<double> hardwareFlopsPerSecond;  // of one device: what was computed again counts too
  std::optional<double> hardwareFlopsUtilization;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("times", self.times);
    field("memoryPeakBytes", self.memoryPeakBytes);
    field("lossZScore", self.lossZScore);
    field("gradientNormZScore", self.gradientNormZScore);
    field("modelFlopsPerSecond", self.modelFlopsPerSecond);
    field("hardwareFlopsPerSecond", self.hardwareFlopsPerSecond);
    field("hardwareFlopsUtilization", self.hardwareFlopsUtilization);
  }
  bool operator==(const Measures&) const = default;
};

struct State {
  std::int64_t version = 0;  // grows with every change, within a pod
  std::string podUid;
  std::int64_t generation = 0;  // the assignment's; 0: none yet
  AgentPhase phase = AgentPhase::kIdle;
  std::optional<Progress> progress;  // only from the agent of the reporting rank
  std::optional<CheckpointStatus> checkpoint;
  std::optional<Checkpointed> checkpointed;
  std::optional<Failure> failure;
  bool secondary = false;       // `failure` only follows another rank's (kPeerLostExitCode): look for the first cause elsewhere
  std::vector<Notice> notices;  // the last 16
  std::vector<RankActivity>
      activities;  // of this agent's ranks, while one of them stands still, and as they were when one failed

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("version", self.version);
    field("podUid", self.podUid);
    field("generation", self.generation);
    field("phase", self.phase);
    field("progress", self.progress);
    field("checkpoint", self.checkpoint);
    field("checkpointed", self.checkpointed);
    field("failure", self.failure);
    field("secondary", self.secondary);
    field("notices", self.notices);
    field("activities", self.activities);
  }
  bool operator==(const State&) const = default;
};

/// How Failure::signal spells it: "SIGKILL".
std::string signal_name(int signal);

/// The failure with its message and last lines shortened until its JSON has at most `bytes` bytes (the status and a termination
/// message hold 4,096); the end of a message and of the lines is kept, since causes stand at the end.
Failure trimmed(Failure failure, std::size_t bytes = 4096);
/// The state as a termination message: at most 4,096 bytes of JSON, notices dropped first, then activities.
std::string termination_message(State state);

/// What a rank writes to file descriptor 3, one JSON object a line.
enum class ReportKind { kProgress, kCheckpoint, kNotice, kFailure, kActivity };
constexpr auto enum_names(ReportKind) {
  return std::to_array<std::string_view>({"Progress", "Checkpoint", "Notice", "Failure", "Activity"});
}
inline constexpr int kReportDescriptor = 3;

struct Report {
  ReportKind kind = ReportKind::kProgress;
  std::optional<Progress> progress;            // Progress: after every step, from one rank of the job
  std::optional<CheckpointStatus> checkpoint;  // Checkpoint: it is durable
  std::optional<std::int64_t> request;         // Checkpoint: the request that it answers
  std::optional<Notice> notice;                // Notice; the agent gives it its number
  std::optional<Failure> failure;              // Failure: class, reason and message; the agent adds the rest
  std::optional<RankActivity> activity;        // Activity: every second, from every rank
  std::optional<Measures> measures;            // Activity: of this rank; Progress: of the job

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("kind", self.kind);
    field("progress", self.progress);
    field("checkpoint", self.checkpoint);
    field("request", self.request);
    field("notice", self.notice);
    field("failure", self.failure);
    field("activity", self.activity);
    field("measures", self.measures);
  }
  bool operator==(const Report&) const = default;
};

}  // namespace trainyard::contract
