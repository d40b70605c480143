#include "controller/reconcile/job_spans.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/queues.h"
#include "controller/decide/text_hash.h"
#include "crds/contract/shortened.h"

namespace trainyard::reconcile {
namespace {

using contract::Phase;
using contract::Time;
using contract::TrainingJobStatus;
using decide::Cluster;
using decide::Job;
using observe::Span;
namespace condition = decide::condition;
namespace reason = decide::reason;

constexpr std::size_t kLongestMessage = 1'024;  // of a failure: a span is no log

std::int32_t all_restarts(const TrainingJobStatus& status) { return status.restarts + status.uncountedRestarts; }

std::optional<Time> failed_at(const TrainingJobStatus& status) {
  return contract::parse_rfc3339(status.failure ? status.failure->at : "");
}

bool becomes(const TrainingJobStatus& before, const TrainingJobStatus& after, const char* type, const char* why) {
  return decide::reason_of(after, type) == why && decide::reason_of(before, type) != why;
}

// ---- Ids.

std::string trace_id_of(const std::string& uid) {
  std::string digits = uid;
  std::erase(digits, '-');
  const bool is_id = digits.size() == 32 && digits.find_first_not_of("0123456789abcdef") == std::string::npos;
  return is_id ? digits : decide::text_hash(uid + "/1") + decide::text_hash(uid + "/2");
}

std::string root_id_of(const Job& job) { return decide::text_hash(job.uid + "/start"); }

std::string id_of(const Job& job, const char* what, std::int64_t generation, Time begun) {
  return decide::text_hash(job.uid + "/" + what + "/" + std::to_string(generation) + "/" +
                           std::to_string(begun.time_since_epoch().count()));
}

// ---- What a start is.

/// How a start ended.
struct Ending {
  Time at{};
  std::string outcome;
  std::optional<std::string> error{};
};

/// Whether the job is on its way to its first step, or back there.
bool is_starting(const TrainingJobStatus& status) {
  // Of one that waits for its next restart the last start is over: it was told when the wait began.
  if (decide::reason_of(status, condition::kRunning) == reason::kBackingOff) return false;
  return status.phase == Phase::kPending || status.phase == Phase::kStarting || status.phase == Phase::kRestarting;
}

/// The words of a failure that the status does not have yet are in the condition.
std::string running_message(const TrainingJobStatus& status) {
  const auto* running = decide::find_condition(status, condition::kRunning);
  return running == nullptr ? "" : running->message;
}

std::optional<Ending> ending_of_start(const TrainingJobStatus& before, const TrainingJobStatus& after, Time now) {
  if (!is_starting(before)) return std::nullopt;
  if (after.phase == Phase::kRunning) return Ending{decide::since_of(after, condition::kRunning), "Running"};
  if (decide::is_finished(after)) {
    const char* type = after.phase == Phase::kFailed ? condition::kFailed : condition::kComplete;
    Ending out{decide::since_of(after, type), std::string(contract::name_of(after.phase))};
    if (after.phase == Phase::kFailed) out.error = decide::find_condition(after, type)->message;
    return out;
  }
  if (all_restarts(after) > all_restarts(before)) {
    return Ending{std::min(now, failed_at(after).value_or(now)), "Failed", after.failure ? after.failure->message : ""};
  }
  if (becomes(before, after, condition::kRunning, reason::kBackingOff)) return Ending{now, "Failed", running_message(after)};
  if (!decide::is_true(before, condition::kPlaced)) return std::nullopt;  // one that has no place has none to give back
  if (after.phase == Phase::kSuspended) return Ending{decide::since_of(after, condition::kSuspended), "Suspended"};
  for (const char* why : {reason::kPreempted, reason::kDrained}) {
    if (becomes(before, after, condition::kPlaced, why)) return Ending{decide::since_of(after, condition::kPlaced), why};
  }
  return std::nullopt;
}

/// Since when the gang does not run that ran before; nothing: none ever did. Running is first told, as false, when the job gets its first
/// place (startTime).
std::optional<Time> stopped_at(const TrainingJobStatus& status) {
  if (!decide::is_false(status, condition::kRunning)) return std::nullopt;
  const Time since = decide::since_of(status, condition::kRunning);
  const bool is_new = contract::parse_rfc3339(status.startTime.value_or("")) == since;
  return is_new ? std::nullopt : std::optional(since);
}

/// Of a start of which `status` is from before its end. A gang that stopped comes back as another generation, and so may one that did not
/// come up; of a job that was made suspended it was said from the beginning that it does not run.
bool is_first_start(const TrainingJobStatus& status) {
  if (all_restarts(status) > 0 || status.preemptions > 0) return false;
  const bool is_first_gang = status.generation == 1 && decide::is_true(status, condition::kPlaced);
  return status.generation == 0 || is_first_gang || !stopped_at(status);
}

/// The same: it began with the job or its resume; a later one with the last failure or stop.
Time begin_of_start(const Job& job, const TrainingJobStatus& status) {
  Time begun = job.created;
  if (decide::is_false(status, condition::kSuspended)) begun = std::max(begun, decide::since_of(status, condition::kSuspended));
  if (is_first_start(status)) return begun;
  begun = std::max(begun, stopped_at(status).value_or(begun));
  if (all_restarts(status) > 0) begun = std::max(begun, failed_at(status).value_or(begun));
  return begun;
}

// ---- Its phases.

/// When a phase was over; nothing: it is not yet.
struct Phased {
  const char* name;
  std::optional<Time> over;
};

std::optional<Time> since_true(const TrainingJobStatus& status, const char* type) {
  return decide::is_true(status, type) ? std::optional(decide::since_of(status, type)) : std::nullopt;
}

/// The newest pod of each worker.
std::map<std::int32_t, const decide::Pod*> pods_of_gang(const Cluster& cluster, const Job& job, const TrainingJobStatus& status) {
  std::map<std::int32_t, const decide::Pod*> out;
  for (const auto* pod : cluster.pods_of(job)) {
    if (pod->worker->worker < 0 || pod->worker->worker >= decide::gang_size(job.spec, status)) continue;
    const decide::Pod*& newest = out[pod->worker->worker];
    if (newest == nullptr || pod->worker->generation > newest->worker->generation) newest = pod;
  }
  return out;
}

std::vector<Phased> phases_of(const Cluster& cluster, const Job& job, const TrainingJobStatus& status) {
  std::vector<Phased> out{{"accept", since_true(status, condition::kAccepted)}};
  if (decide::reason_of(status, condition::kAdmitted) != "NoQueue" && !decide::queue_name(cluster, job).empty()) {
    out.push_back({"admit", since_true(status, condition::kAdmitted)});
  }
  out.push_back({"place", since_true(status, condition::kPlaced)});
  const auto pods = pods_of_gang(cluster, job, status);
  const bool are_all = std::ssize(pods) == decide::gang_size(job.spec, status);
  const auto last = [&](const auto& time_of) {
    std::optional<Time> latest = are_all ? std::optional(Time{}) : std::nullopt;
    for (const auto& [worker, pod] : pods) {
      const std::optional<Time> time = time_of(*pod);
      latest = latest && time ? std::optional(std::max(*latest, *time)) : std::nullopt;
    }
    return latest;
  };
  out.push_back({"create pods", last([](const decide::Pod& pod) { return std::optional(pod.created); })});
  if (job.spec.placement.binding == contract::Binding::kScheduler) {
    out.push_back({"schedule pods", last([](const decide::Pod& pod) { return pod.worker->scheduled_at; })});
  }
  out.push_back({"start workers", last([](const decide::Pod& pod) { return pod.worker->started_at; })});
  out.push_back({"initialise", std::nullopt});
  return out;
}

// ---- Spans.

/// What every span of the job carries.
Span span_of(const Job& job, std::string trace_id, std::string name) {
  return {.trace_id = std::move(trace_id),
          .name = std::move(name),
          .attributes = {{"k8s.namespace.name", job.key.ns}, {"trainyard.job.name", job.key.name}}};
}

void describe_gang(Span& span, const Cluster& cluster, const Job& job, const TrainingJobStatus& status) {
  const std::int64_t workers = decide::gang_size(job.spec, status);
  auto& out = span.attributes;
  out.push_back({"trainyard.job.uid", job.uid});
  out.push_back({"trainyard.engine", std::string(contract::name_of(job.spec.engine))});
  if (const std::string queue = decide::queue_name(cluster, job); !queue.empty()) out.push_back({"trainyard.queue", queue});
  out.push_back({"trainyard.workers", workers});
  out.push_back({"trainyard.gpus", workers * job.spec.workers.gpusPerWorker});
  if (status.placement && status.placement->nodes > 0) out.push_back({"trainyard.nodes", std::int64_t{status.placement->nodes}});
  out.push_back({"trainyard.generation", status.generation});
  out.push_back({"trainyard.restarts", std::int64_t{all_restarts(status)}});
  out.push_back({"trainyard.preemptions", std::int64_t{status.preemptions}});
}

/// Semantic conventions for exceptions: the event's and its attributes' names.
void add_failure(Span& span, const TrainingJobStatus& before, const TrainingJobStatus& after, const std::string& error) {
  const std::string message = contract::shortened(error, kLongestMessage);
  span.error = message;
  observe::SpanEvent event{.at = span.end, .name = "exception", .attributes = {{"exception.message", message}}};
  if (after.failure && after.failure != before.failure) {
    const auto& failure = *after.failure;
    event.attributes.push_back({"exception.type", failure.reason});
    event.attributes.push_back({"trainyard.failure.class", std::string(contract::name_of(failure.failureClass))});
    if (failure.node) event.attributes.push_back({"k8s.node.name", *failure.node});
    if (failure.worker) event.attributes.push_back({"trainyard.worker", std::int64_t{*failure.worker}});
    if (failure.rank) event.attributes.push_back({"trainyard.rank", std::int64_t{*failure.rank}});
    if (failure.exitCode) event.attributes.push_back({"process.exit.code", std::int64_t{*failure.exitCode}});
    if (failure.signal) event.attributes.push_back({"trainyard.signal", *failure.signal});
  }
  span.events.push_back(std::move(event));
}

/// The phases of a start one after another, up to the one in which it ended. What was over before the start is no part of it.
void add_phases(std::vector<Span>& out, const Span& start, const std::vector<Phased>& phases, const Job& job, bool is_done) {
  Time from = start.start;
  for (const auto& phase : phases) {
    const bool is_last = &phase == &phases.back();
    if (phase.over && *phase.over < start.start) continue;
    if (!phase.over && is_done && !is_last) continue;  // not known
    Span span = span_of(job, start.trace_id, phase.name);
    span.parent_id = start.span_id;
    span.span_id = decide::text_hash(start.span_id + "/" + phase.name);
    span.start = from;
    span.end = phase.over ? std::clamp(*phase.over, from, start.end) : start.end;
    from = span.end;
    if (!phase.over && !is_done) {
      span.error = start.error;
      span.events = start.events;
    }
    out.push_back(std::move(span));
    if (!phase.over) return;
  }
}

void add_start(std::vector<Span>& out, const Cluster& cluster, const Job& job, const observe::TraceParent& trace,
               const TrainingJobStatus& before, const TrainingJobStatus& after, const Ending& ending) {
  const bool is_done = ending.outcome == "Running";
  const Time begun = std::min(begin_of_start(job, before), ending.at);
  const bool is_first = is_first_start(before);
  Span span = span_of(job, trace.trace_id, is_first ? "TrainingJob start" : "TrainingJob restart");
  span.span_id = is_first ? root_id_of(job) : id_of(job, "restart", after.generation, begun);
  span.parent_id = is_first ? trace.span_id : root_id_of(job);
  span.start = begun;
  span.end = ending.at;
  const TrainingJobStatus& gang = is_done ? after : before;
  describe_gang(span, cluster, job, gang);
  span.attributes.push_back({"trainyard.outcome", ending.outcome});
  if (ending.error) add_failure(span, before, after, *ending.error);
  out.push_back(span);
  add_phases(out, span, phases_of(cluster, job, gang), job, is_done);
}

void add_training(std::vector<Span>& out, const Cluster& cluster, const Job& job, const observe::TraceParent& trace,
                  const TrainingJobStatus& before, const TrainingJobStatus& after) {
  const Time begun = decide::since_of(before, condition::kRunning);
  const std::string why = decide::reason_of(after, condition::kRunning);
  Span span = span_of(job, trace.trace_id, "train");
  span.span_id = id_of(job, "train", before.generation, begun);
  span.parent_id = root_id_of(job);
  span.start = begun;
  span.end = std::max(begun, decide::since_of(after, condition::kRunning));
  describe_gang(span, cluster, job, before);
  span.attributes.push_back({"trainyard.outcome", why});
  if (after.progress) span.attributes.push_back({"trainyard.step", after.progress->step});
  if (after.phase == Phase::kFailed) {
    add_failure(span, before, after, decide::find_condition(after, condition::kFailed)->message);
  } else if (all_restarts(after) > all_restarts(before) || why == reason::kBackingOff) {
    add_failure(span, before, after, running_message(after));
  }
  out.push_back(std::move(span));
}

/// Where the job's spans belong; `span_id` is empty where they are a trace of their own. Nothing where they are not wanted.
std::optional<observe::TraceParent> trace_of(const Job& job) {
  auto given = observe::parse_traceparent(job.traceparent);
  if (!given) return observe::TraceParent{.trace_id = trace_id_of(job.uid), .span_id = "", .sampled = true};
  return given->sampled ? given : std::nullopt;
}

}  // namespace

std::vector<Span> ended_spans(const Cluster& cluster, const Job& job, const TrainingJobStatus& before,
                              const TrainingJobStatus& after, Time now) {
  std::vector<Span> out;
  const auto trace = trace_of(job);
  if (!trace) return out;
  if (const auto ending = ending_of_start(before, after, now)) add_start(out, cluster, job, *trace, before, after, *ending);
  if (decide::is_true(before, condition::kRunning) && !decide::is_true(after, condition::kRunning)) {
    add_training(out, cluster, job, *trace, before, after);
  }
  return out;
}

}  // namespace trainyard::reconcile
