#pragma once
// A job's conditions (metav1.Condition), and the phase that is computed from them.
//
// Some reasons are more than words: they tell the next decision how far the last one came, since nothing else is remembered. Those
// are the constants here.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/job.h"
#include "crds/contract/time.h"

namespace trainyard::decide {

namespace condition {
inline constexpr const char* kAccepted = "Accepted";
inline constexpr const char* kAdmitted = "Admitted";
inline constexpr const char* kPlaced = "Placed";
inline constexpr const char* kRunning = "Running";
inline constexpr const char* kProgressing = "Progressing";
inline constexpr const char* kSuspended = "Suspended";
inline constexpr const char* kComplete = "Complete";
inline constexpr const char* kFailed = "Failed";
}  // namespace condition

namespace reason {
// Of Accepted, False:
inline constexpr const char* kDoesNotFit = "DoesNotFit";  // its ranks would run out of memory wherever they may run
// Of Placed, True:
inline constexpr const char* kCreatingWorkers = "CreatingWorkers";  // the generation was raised; not all its pods were seen yet
inline constexpr const char* kGangPlaced = "Placed";                // every worker had its pod: what is missing now was lost
// Of Placed, False:
inline constexpr const char* kUnschedulable = "Unschedulable";  // no room now
inline constexpr const char* kNeverFits = "NeverFits";          // no room ever
inline constexpr const char* kReserved = "Reserved";            // there is room, and it is kept for those before it in the line
inline constexpr const char* kDryRun = "DryRun";                // spec.dryRun: the message says what would be
inline constexpr const char* kMakingRoom = "MakingRoom";        // others of lower priority stop at a checkpoint
inline constexpr const char* kQuotaExceeded = "QuotaExceeded";  // not enough of the queue's quota is free; of Admitted too
inline constexpr const char* kQuotaTooSmall = "QuotaTooSmall";  // the queue's quota would never hold it; of Admitted too
inline constexpr const char* kQueueStopped = "QueueStopped";    // nothing starts from the queue; of Admitted too
inline constexpr const char* kClaimMissing = "ClaimMissing";    // a PersistentVolumeClaim of the template is not there
inline constexpr const char* kClaimUnbound = "ClaimUnbound";    // the same is not bound, and binding is Direct
inline constexpr const char* kWorkerLost = "WorkerLost";        // some workers are to be replaced; the others stay
inline constexpr const char* kNoReplacement = "NoReplacement";  // the same, and there is no room for the new ones
inline constexpr const char* kLostRace = "LostRace";            // a kubelet rejected a pod, as where another scheduler was faster
inline constexpr const char* kGangRemoved = "GangRemoved";      // all pods go; then the gang is placed anew
inline constexpr const char* kPartlyScheduled = "PartlyScheduled";  // the same: kube-scheduler found nodes for some workers alone

// Of Failed, True:
inline constexpr const char* kDeadlineExceeded = "DeadlineExceeded";

// Of Running, False:
inline constexpr const char* kSuspending = "Suspending";  // a checkpoint is being written, then the pods go
inline constexpr const char* kPreempting = "Preempting";  // the same, for the sake of another job
inline constexpr const char* kDraining = "Draining";      // the same, since its queue is drained
// Of Running and then of Placed, False: a checkpoint is written, then the gang goes on with another number of workers; the pods that it
// keeps stay.
inline constexpr const char* kResizing = "Resizing";
// Of Running and Placed, False:
inline constexpr const char* kDrained = "Drained";      // the pods are gone; this one waits until its queue starts jobs again
inline constexpr const char* kPreempted = "Preempted";  // the pods made room for another job; this one waits for its place again
// Of Running, False:
inline constexpr const char* kWorkersStarting = "WorkersStarting";
inline constexpr const char* kAssignmentRefused = "AssignmentRefused";  // by an agent: is it of another version?
// Of Running and Progressing, False: a failure was counted, and no step was done since.
inline constexpr const char* kRestarting = "Restarting";
// Of Running, False: one more failure of several in a row; the restart waits.
inline constexpr const char* kBackingOff = "BackingOff";
// Of Running, either way, and then of the failure: pods leave their nodes, since somebody looks after those, or since they are broken.
inline constexpr const char* kNodeDrained = "NodeDrained";
inline constexpr const char* kNodeUnhealthy = "NodeUnhealthy";
// Of Running and Progressing, True, with the engine Custom:
inline constexpr const char* kProgramsRun = "ProgramsRun";
// Of Running, either way:
inline constexpr const char* kAgentUnreachable = "AgentUnreachable";
inline constexpr const char* kOtherControllerKey = "OtherControllerKey";  // agents that live, and do not know us
}  // namespace reason

const contract::Condition* find_condition(const contract::TrainingJobStatus& status, std::string_view type);
bool is_true(const contract::TrainingJobStatus& status, std::string_view type);
bool is_false(const contract::TrainingJobStatus& status, std::string_view type);
/// Empty where there is no such condition.
const std::string& reason_of(const contract::TrainingJobStatus& status, std::string_view type);
/// When the condition got its status; the epoch where there is none.
contract::Time since_of(const contract::TrainingJobStatus& status, std::string_view type);

struct NewCondition {
  const char* type;
  bool is_true;
  std::string reason;
  std::string message;
};
/// lastTransitionTime changes with the status alone. `generation`: metadata.generation of the job.
void set_condition(contract::TrainingJobStatus& status, NewCondition condition, std::int64_t generation, contract::Time now);

void set_condition(std::vector<contract::Condition>& conditions, NewCondition condition, std::int64_t generation,
                   contract::Time now);

/// Succeeded or Failed.
bool is_finished(const contract::TrainingJobStatus& status);
/// All pods of the gang go, for it to be placed anew.
bool is_removed(const contract::TrainingJobStatus& status);
/// The job's pods are about to go: a suspension or a preemption was begun, and has not come to its end.
bool is_vacating(const contract::TrainingJobStatus& status);
/// The ranks are told to stop: for that, or to go on as another number of workers.
bool is_stopping(const contract::TrainingJobStatus& status);
contract::Phase phase_of(const contract::TrainingJobStatus& status);

}  // namespace trainyard::decide
