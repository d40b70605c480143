#include "worker/agent/agent_core.h"

#include <algorithm>
#include <csignal>
#include <set>
#include <utility>

#include "crds/contract/hang.h"
#include "crds/contract/sparse.h"

namespace trainyard::agent {
namespace {

using contract::AgentPhase;
using contract::Assignment;
using std::chrono::milliseconds;

std::vector<contract::Problem> problems_of(const Assignment& assignment) {
  std::vector<contract::Problem> problems;
  if (assignment.jobUid.empty()) problems.push_back({"jobUid", "must not be empty"});
  if (assignment.generation < 1) problems.push_back({"generation", "must be at least 1"});
  if (assignment.amends) return problems;
  std::set<std::int32_t> seen;
  for (const auto rank : assignment.ranks) {
    if (rank < 0 || rank >= assignment.worldSize) {
      problems.push_back({"ranks", std::to_string(rank) + " is outside 0.." + std::to_string(assignment.worldSize - 1)});
    }
    if (!seen.insert(rank).second) problems.push_back({"ranks", std::to_string(rank) + " occurs twice"});
  }
  const auto& at = assignment.rendezvous;
  if (!assignment.ranks.empty() && (at.host.empty() || at.port < 1 || at.port > 65535)) {
    problems.push_back({"rendezvous", "needs a host and a port from 1 to 65535"});
  }
  return problems;
}

/// The assignment with what `changes` says of the three fields that may change under a generation.
Assignment amended(Assignment assignment, const Assignment& changes) {
  assignment.checkpointRequest = changes.checkpointRequest;
  assignment.stopAfter = changes.stopAfter;
  assignment.release = changes.release;
  return assignment;
}

/// What may not be wanted of a worker that has the same generation already.
std::vector<contract::Problem> contradictions(const Assignment& had, const Assignment& wanted) {
  std::vector<contract::Problem> problems;
  if (!wanted.amends && amended(wanted, had) != had)
    problems.push_back({"generation", std::to_string(had.generation) + " is already here with another content"});
  if (wanted.release) return problems;  // ends all else
  if (wanted.checkpointRequest < had.checkpointRequest) {
    problems.push_back({"checkpointRequest", "may only grow; it is " + std::to_string(had.checkpointRequest) + " here"});
  }
  if (had.stopAfter && (!wanted.stopAfter || *wanted.stopAfter < *had.stopAfter)) {
    problems.push_back({"stopAfter", "may not be taken back; it is " + std::to_string(*had.stopAfter) + " here"});
  }
  if (had.release && !wanted.release) problems.push_back({"release", "may not be taken back"});
  return problems;
}

contract::Failure outdated(const Assignment& assignment, const Worker& worker, const std::vector<contract::Problem>& unknown,
                           Now now) {
  contract::Failure failure{
      .failureClass = contract::FailureClass::kUser,
      .worker = assignment.worker,
      .reason = contract::kWorkerOutdated,
      .message =
          "the worker's program does not know all that it is asked for, as where its image is of an older release than the "
          "controller; give the workers the image of the controller's release, or leave these out:\n" +
          contract::to_text(unknown),
      .at = contract::to_rfc3339(now.wall)};
  if (!worker.node.empty()) failure.node = worker.node;
  return contract::trimmed(std::move(failure));
}

Answer refusal(unsigned status, const std::string& message) { return {.status = status, .message = message, .actions = {}}; }

}  // namespace

AgentCore::AgentCore(Worker worker, Limits limits) : worker_(std::move(worker)), limits_(limits) {
  state_.version = 1;
  state_.podUid = worker_.pod_uid;
}

Answer AgentCore::assign(const Assignment& assignment, Now now, const std::vector<contract::Problem>& unknown) {
  if (const auto problems = problems_of(assignment); !problems.empty()) {
    return refusal(400, "the assignment makes no sense:\n" + contract::to_text(problems));
  }
  if (assignment_) {
    if (assignment.jobUid != assignment_->jobUid) {
      return refusal(409, "this worker belongs to the job with UID " + assignment_->jobUid + ", not " + assignment.jobUid);
    }
    if (assignment.generation < assignment_->generation) {
      return refusal(409, "generation " + std::to_string(assignment.generation) + " is lower than " +
                              std::to_string(assignment_->generation) + ", which this worker has");
    }
    if (assignment.generation == assignment_->generation) return amend(assignment, now);
  }
  if (assignment.amends) {
    return refusal(409, "there is no assignment of generation " + std::to_string(assignment.generation) + " here to amend");
  }
  if (terminating_) return refusal(409, "this worker has been told to end; it takes no new generation");
  Answer answer;
  outdated_.reset();
  if (!unknown.empty()) outdated_ = outdated(assignment, worker_, unknown, now);
  adopt(assignment, now, answer.actions);
  return answer;
}

Answer AgentCore::amend(const Assignment& assignment, Now now) {
  if (const auto problems = contradictions(*assignment_, assignment); !problems.empty()) {
    return refusal(409, contract::to_text(problems));
  }
  const contract::RankControl before = control();
  const bool was_released = assignment_->release;
  assignment_ = amended(*assignment_, assignment);
  if (assignment_->stopAfter && !stop_ordered_at_) stop_ordered_at_ = now.uptime;
  Answer answer;
  if (control() != before) send_control(answer.actions);
  if (assignment.release && !was_released) {
    kill_ranks(answer.actions);
    maybe_exit(answer.actions);
  }
  return answer;
}

void AgentCore::adopt(const Assignment& assignment, Now now, Actions& actions) {
  assignment_ = assignment;
  failure_.reset();
  failure_is_secondary_ = false;
  exit_at_.reset();
  stop_ordered_at_ = assignment.stopAfter ? std::optional(now.uptime) : std::nullopt;
  unpublished_progress_.reset();
  state_.generation = assignment.generation;
  state_.phase = assignment.ranks.empty() ? AgentPhase::kIdle : AgentPhase::kStarting;
  state_.progress.reset();
  state_.checkpointed.reset();
  state_.failure.reset();
  state_.secondary = false;
  state_.activities.clear();
  evidence_.clear();
  hang_suspected_at_.reset();
  killed_by_.reset();
  kill_ranks(actions);
  if (!any_alive()) start_ranks(now, actions);
  publish(now, actions);
  maybe_exit(actions);
}

void AgentCore::start_ranks(Now now, Actions& actions) {
  ranks_.clear();
  measured_ = {};
  ranks_generation_ = assignment_->generation;
  if (assignment_->release || terminating_) return;
  if (outdated_) {
    state_.phase = AgentPhase::kFailed;
    state_.failure = failure_ = outdated_;
    exit_at_ = now.uptime + limits_.abandoned;
    return;
  }
  const auto& spec = assignment_->spec;
  const auto here = static_cast<std::int32_t>(assignment_->ranks.size());
  for (std::int32_t i = 0; i < here; ++i) {
    contract::RankConfig config;
    config.jobUid = assignment_->jobUid;
    config.job = assignment_->job;
    config.generation = assignment_->generation;
    config.rank = assignment_->ranks[i];
    config.localRank = i;
    config.worldSize = assignment_->worldSize;
    config.threads = spec.workers.threadsPerProcess.value_or(std::max(1, worker_.cpus / here));
    config.rendezvous = assignment_->rendezvous;
    config.bindAddress = worker_.bind_address;
    config.spec = spec;
    ranks_[config.rank].alive = true;
    ++ranks_started_;
    actions.emplace_back(StartRank{.config = std::move(config), .control = control()});
  }
}

void AgentCore::kill_ranks(Actions& actions) {
  for (auto& [rank, record] : ranks_) {
    if (!record.alive || record.killed) continue;
    record.killed = true;
    actions.emplace_back(KillRank{rank});
  }
}

void AgentCore::send_control(Actions& actions) const {
  if (!ranks_are_current()) return;  // those that are to start get it as their second line
  for (const auto& [rank, record] : ranks_) {
    if (record.alive && !record.killed) actions.emplace_back(SendControl{.rank = rank, .control = control()});
  }
}

contract::RankControl AgentCore::control() const {
  if (last_wish_) return *last_wish_;
  return {.checkpointRequest = assignment_->checkpointRequest, .stopAfter = assignment_->stopAfter};
}

Actions AgentCore::reported(std::int32_t rank, const contract::Report& report, Now now) {
  Actions actions;
  const auto record = ranks_.find(rank);
  // An older generation's words would be read as the new one's.
  if (!ranks_are_current() || record == ranks_.end()) return actions;
  switch (report.kind) {
    case contract::ReportKind::kProgress: {
      if (!report.progress) break;
      measured_.reporting_rank = rank;
      if (report.measures) measured_.of_rank[rank] = *report.measures;
      unpublished_progress_ = report.progress;
      const bool first = state_.phase == AgentPhase::kStarting;
      if (first) state_.phase = AgentPhase::kRunning;
      if (first || now.uptime - published_at_ >= limits_.progress_interval) publish(now, actions);
      break;
    }
    case contract::ReportKind::kCheckpoint:
      if (!report.checkpoint) break;
      state_.checkpoint = report.checkpoint;
      if (report.request) {
        state_.checkpointed =
            contract::Checkpointed{.request = *report.request, .step = report.checkpoint->step, .durable = true};
      }
      publish(now, actions);
      break;
    case contract::ReportKind::kNotice:
      if (!report.notice) break;
      state_.notices.push_back(*report.notice);
      state_.notices.back().number = ++last_notice_;
      if (state_.notices.size() > 16) state_.notices.erase(state_.notices.begin());
      publish(now, actions);
      break;
    case contract::ReportKind::kFailure:
      // Told on together with the exit that follows.
      record->second.reported = report.failure;
      break;
    case contract::ReportKind::kActivity:
      if (report.measures) measured_.of_rank[rank] = *report.measures;
      if (report.activity) note_activity(record->second, *report.activity, now, actions);
      break;
  }
  return actions;
}

Actions AgentCore::exited(const std::vector<RankExit>& exits, Now now) {
  for (const auto& exit : exits) note_exit(exit, now);
  Actions actions;
  if (failure_) kill_ranks(actions);
  if (failure_ && evidence_.empty()) evidence_ = activities(now);
  if (!any_alive()) all_ended(now, actions);
  return actions;
}

void AgentCore::note_exit(const RankExit& exit, Now now) {
  const auto found = ranks_.find(exit.rank);
  if (found == ranks_.end() || !found->second.alive) return;
  RankRecord& record = found->second;
  record.alive = false;
  if (exit.signal == 0 && exit.could_not_start.empty()) record.exit_code = exit.exit_code;
  const bool own_kill = record.killed && exit.signal == SIGKILL;
  const ExitKind kind = kind_of(exit);
  if (!ranks_are_current() || own_kill || kind == ExitKind::kFinished || kind == ExitKind::kStopped) return;
  ++ranks_failed_;
  const bool secondary = kind == ExitKind::kPeerLost;
  if (failure_ && (secondary || !failure_is_secondary_)) return;  // the first cause stays, unless it only followed another
  failure_ = failure_of(exit, record.reported, worker_, assignment_->worker, now.wall);
  failure_is_secondary_ = secondary;
}

void AgentCore::all_ended(Now now, Actions& actions) {
  if (!assignment_) return;
  if (!ranks_are_current()) {
    start_ranks(now, actions);
    if (outdated_) publish(now, actions);
    return maybe_exit(actions);
  }
  if (ranks_.empty() || state_.phase == AgentPhase::kFailed || state_.phase == AgentPhase::kSucceeded ||
      state_.phase == AgentPhase::kStopped) {
    return maybe_exit(actions);
  }
  const auto ended_with = [this](int code) {
    return std::all_of(ranks_.begin(), ranks_.end(), [code](const auto& item) { return item.second.exit_code == code; });
  };
  kill_at_.reset();
  killed_by_.reset();
  if (failure_) {
    state_.phase = AgentPhase::kFailed;
    state_.failure = failure_;
    state_.secondary = failure_is_secondary_;
    state_.activities = std::exchange(evidence_, {});
  } else if (ended_with(contract::kFinishedExitCode)) {
    state_.phase = AgentPhase::kSucceeded;
  } else {
    state_.phase = AgentPhase::kStopped;  // as asked, or killed since the job's outcome was already written
  }
  exit_at_ = now.uptime + (ended_as_wanted() ? limits_.linger : limits_.abandoned);
  publish(now, actions);
  maybe_exit(actions);
}

void AgentCore::maybe_exit(Actions& actions) {
  if (any_alive() || (!terminating_ && !(assignment_ && assignment_->release))) return;
  actions.emplace_back(Exit{state_.phase == AgentPhase::kFailed ? 1 : 0});
}

void AgentCore::asked(Now now) {
  if (exit_at_ && state_.phase != AgentPhase::kSucceeded) exit_at_ = now.uptime + limits_.abandoned;
}

bool AgentCore::ended_as_wanted() const {
  return state_.phase == AgentPhase::kSucceeded || (state_.phase == AgentPhase::kStopped && assignment_->stopAfter);
}

Actions AgentCore::terminate(Now now) {
  Actions actions;
  if (terminating_) return actions;
  terminating_ = true;
  if (!any_alive()) {
    maybe_exit(actions);
    return actions;
  }
  if (!ranks_are_current()) {
    // The last generation is dying and the next has not begun: there is nothing to keep.
    state_.phase = AgentPhase::kStopped;
    publish(now, actions);
    return actions;
  }
  kill_at_ = keeps_checkpoints() ? stop_ordered_at_.value_or(now.uptime) + limits_.grace
                                 : now.uptime + std::min(limits_.grace, limits_.step_grace);
  if (!control().stopAfter) {
    const std::int64_t request = assignment_->checkpointRequest + 1;
    last_wish_ = contract::RankControl{.checkpointRequest = request, .stopAfter = request};
    send_control(actions);
  }
  return actions;
}

Actions AgentCore::tick(Now now) {
  Actions actions;
  if (unpublished_progress_ && now.uptime - published_at_ >= limits_.progress_interval) publish(now, actions);
  if (kill_at_ && now.uptime >= *kill_at_) {
    kill_at_.reset();
    if (keeps_checkpoints()) {
      failure_ = grace_exceeded(now);
      failure_is_secondary_ = false;
    }
    kill_ranks(actions);
  }
  if (const auto at = first_hangs_at(); !at || now.uptime < *at) {
    hang_suspected_at_.reset();
  } else if (!hang_suspected_at_) {
    hang_suspected_at_ = now.uptime;
  } else if (now.uptime >= *hang_suspected_at_ + limits_.hang_doubt) {
    end_hang(now, actions);
  }
  if (killed_by_ && now.uptime >= *killed_by_) tell_of_unkillable(now, actions);
  if (const auto at = first_stands_still_at(); at && now.uptime >= *at && state_.activities.empty()) {
    state_.activities = activities(now);
    publish(now, actions);
  }
  if (exit_at_ && now.uptime >= *exit_at_ && !any_alive()) {
    exit_at_.reset();
    actions.emplace_back(Exit{state_.phase == AgentPhase::kFailed ? 1 : 0});
  }
  return actions;
}

void AgentCore::note_activity(RankRecord& record, const contract::RankActivity& activity, Now now, Actions& actions) {
  const bool has_moved = !record.activity || record.activity->mark != activity.mark;
  record.activity = activity;
  record.heard_at = now.uptime;
  if (!has_moved) return;
  record.moved_at = now.uptime;
  if (state_.activities.empty() || failure_) return;
  if (const auto at = first_stands_still_at(); at && now.uptime >= *at) return;  // another one still stands
  state_.activities.clear();
  publish(now, actions);
}

std::optional<milliseconds> AgentCore::patience_with(const RankRecord& record) const {
  const auto& lifecycle = assignment_->spec.lifecycle;
  if (!record.alive || record.killed || !record.activity || !lifecycle.hangTimeoutSeconds) return std::nullopt;
  // Until its first step a rank loads, draws initial values and warms up.
  const std::int64_t more = record.activity->warm ? 0 : lifecycle.startTimeoutSeconds;
  return std::chrono::seconds(*lifecycle.hangTimeoutSeconds + more);
}

std::optional<milliseconds> AgentCore::first_hangs_at() const {
  std::optional<milliseconds> first;
  if (!ranks_are_current() || failure_) return first;
  for (const auto& [rank, record] : ranks_) {
    const auto patience = patience_with(record);
    if (!patience) continue;
    milliseconds at = record.moved_at + *patience;
    const bool answers = record.heard_at + milliseconds(static_cast<std::int64_t>(contract::kSilentSeconds * 1000)) > at;
    if (record.activity->call && answers) at += std::chrono::seconds(*assignment_->spec.lifecycle.hangTimeoutSeconds);
    if (!first || at < *first) first = at;
  }
  return first;
}

std::optional<milliseconds> AgentCore::first_stands_still_at() const {
  std::optional<milliseconds> first;
  if (!ranks_are_current() || failure_) return first;
  for (const auto& [rank, record] : ranks_) {
    const auto patience = patience_with(record);
    if (!patience) continue;
    const auto at = record.moved_at + *patience - milliseconds(500 * *assignment_->spec.lifecycle.hangTimeoutSeconds);
    if (!first || at < *first) first = at;
  }
  return first;
}

std::vector<contract::RankActivity> AgentCore::activities(Now now) const {
  std::vector<contract::RankActivity> out;
  const auto since = [&now](milliseconds at) { return std::chrono::duration<double>(now.uptime - at).count(); };
  for (const auto& [rank, record] : ranks_) {
    if (!record.activity) continue;
    auto& activity = out.emplace_back(*record.activity);
    activity.stillSeconds = since(record.moved_at);
    activity.silentSeconds = since(record.heard_at);
    if (activity.call) activity.call->seconds += activity.silentSeconds;
  }
  return out;
}

void AgentCore::end_hang(Now now, Actions& actions) {
  evidence_ = activities(now);
  contract::Degrees degrees = contract::degrees(assignment_->spec);
  if (degrees.pp * degrees.dp * degrees.cp * degrees.tp != assignment_->worldSize) degrees = {.dp = assignment_->worldSize};
  const auto blame = contract::blame_for_hang(contract::Layout(degrees, assignment_->worldSize), evidence_);
  const auto moves = [&](std::int32_t rank) {
    const auto found = ranks_.find(rank);
    if (found == ranks_.end()) return false;
    const auto patience = patience_with(found->second);
    return patience && now.uptime < found->second.moved_at + *patience;
  };
  if (!blame.ranks.empty() && std::all_of(blame.ranks.begin(), blame.ranks.end(), moves)) {
    hang_suspected_at_ = now.uptime;  // the others wait for a rank that is slow
    evidence_.clear();
    return;
  }
  const auto mine = std::find_if(blame.ranks.begin(), blame.ranks.end(), [this](auto rank) { return ranks_.contains(rank); });
  failure_ = contract::Failure{.failureClass = contract::class_of(blame),
                               .worker = assignment_->worker,
                               .reason = contract::kRankHung,
                               .message = "no sign of progress for the " +
                                          std::to_string(*assignment_->spec.lifecycle.hangTimeoutSeconds) +
                                          " s of lifecycle.hangTimeoutSeconds: " + blame.message,
                               .at = contract::to_rfc3339(now.wall)};
  if (!worker_.node.empty()) failure_->node = worker_.node;
  if (mine != blame.ranks.end()) failure_->rank = *mine;
  failure_ = contract::trimmed(*failure_);
  failure_is_secondary_ = !blame.ranks.empty() && mine == blame.ranks.end();
  ++ranks_failed_;
  killed_by_ = now.uptime + limits_.unkillable;
  kill_ranks(actions);
}

/// A process that waits in the kernel, for a disk or a device, does not even end by SIGKILL. Nobody should wait for it.
void AgentCore::tell_of_unkillable(Now now, Actions& actions) {
  killed_by_.reset();
  if (!any_alive() || !failure_ || !ranks_are_current() || state_.phase == AgentPhase::kFailed) return;
  failure_->failureClass = contract::FailureClass::kInfrastructure;
  failure_->reason = "RankNotKilled";
  failure_->message += "; its process did not end when it was killed, as where a disk or a device does not answer it";
  failure_ = contract::trimmed(*failure_);
  state_.phase = AgentPhase::kFailed;
  state_.failure = failure_;
  state_.secondary = failure_is_secondary_;
  state_.activities = std::exchange(evidence_, {});
  publish(now, actions);
}

contract::Failure AgentCore::grace_exceeded(Now now) const {
  return {.failureClass = contract::FailureClass::kInfrastructure,
          .worker = assignment_->worker,
          .reason = "GraceExceeded",
          .message = "the worker was told to end (SIGTERM), but its ranks had not written a checkpoint and stopped after " +
                     std::to_string(limits_.grace.count() / 1000) +
                     " s, so they were killed; raise lifecycle.checkpointGraceSeconds",
          .at = contract::to_rfc3339(now.wall)};
}

std::optional<milliseconds> AgentCore::deadline() const {
  std::optional<milliseconds> next;
  const auto consider = [&next](std::optional<milliseconds> at) {
    if (at && (!next || *at < *next)) next = at;
  };
  if (unpublished_progress_) consider(published_at_ + limits_.progress_interval);
  consider(kill_at_);
  consider(exit_at_);
  consider(killed_by_);
  consider(hang_suspected_at_ ? *hang_suspected_at_ + limits_.hang_doubt : first_hangs_at());
  if (state_.activities.empty()) consider(first_stands_still_at());
  return next;
}

void AgentCore::publish(Now now, Actions& actions) {
  if (unpublished_progress_) state_.progress = std::exchange(unpublished_progress_, std::nullopt);
  ++state_.version;
  published_at_ = now.uptime;
  actions.emplace_back(Publish{});
}

bool AgentCore::any_alive() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const auto& item) { return item.second.alive; });
}

}  // namespace trainyard::agent
