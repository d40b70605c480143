#include "controller/reconcile/job_metrics.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/fragmentation.h"
#include "controller/decide/holdings.h"
#include "controller/decide/quantity.h"
#include "controller/decide/queues.h"

namespace trainyard::reconcile {
namespace {

using contract::Time;
using decide::Cluster;
using decide::Job;
namespace condition = decide::condition;

double seconds(Time from, Time to) { return std::max(0.0, std::chrono::duration<double>(to - from).count()); }

bool becomes(const contract::TrainingJobStatus& before, const contract::TrainingJobStatus& after, const char* type) {
  return !decide::is_true(before, type) && decide::is_true(after, type);
}

void count_jobs(observe::Metrics& metrics, const Cluster& cluster) {
  std::map<std::string, int> by_phase, by_reason;
  for (const auto& [key, job] : cluster.packed_jobs()) ++by_phase[std::string(contract::name_of(job.phase))];
  for (const auto& [key, job] : cluster.jobs()) {
    ++by_phase[std::string(contract::name_of(job.status.phase))];
    const bool waits = job.status.queue && job.status.queue->position;
    if (waits) ++by_reason[decide::reason_of(job.status, condition::kPlaced)];
  }
  metrics.clear("trainyard_jobs");
  for (const auto& [phase, number] : by_phase) metrics.set("trainyard_jobs", {{"phase", phase}}, number);
  metrics.clear("trainyard_jobs_waiting");
  for (const auto& [why, number] : by_reason) metrics.set("trainyard_jobs_waiting", {{"reason", why}}, number);
}

void tell_of(observe::Metrics& metrics, const Job& job, Time now) {
  const observe::Labels labels = {{"job_namespace", job.key.ns}, {"job_name", job.key.name}};
  const auto& status = job.status;
  metrics.set("trainyard_job_devices", labels, double{1} * decide::gang_size(job) * std::max(1, job.spec.workers.gpusPerWorker));
  if (const auto& progress = status.progress) {
    metrics.set("trainyard_job_step", labels, static_cast<double>(progress->step));
    metrics.set("trainyard_job_steps", labels, static_cast<double>(progress->steps));
    if (progress->loss) metrics.set("trainyard_job_loss", labels, *progress->loss);
    if (progress->tokensPerSecond) metrics.set("trainyard_job_tokens_per_second", labels, *progress->tokensPerSecond);
    if (progress->mfu) metrics.set("trainyard_job_mfu_ratio", labels, *progress->mfu);
    if (const auto at = contract::parse_rfc3339(progress->updatedAt)) {
      metrics.set("trainyard_job_progress_timestamp_seconds", labels,
                  std::chrono::duration<double>(at->time_since_epoch()).count());
    }
  }
  if (const auto ratio = goodput(job.created, status, now)) metrics.set("trainyard_job_goodput_ratio", labels, *ratio);
  if (status.spares) metrics.set("trainyard_job_spares_ready", labels, status.spares->ready);
}

std::int64_t num_new_stand_ins(const contract::TrainingJobStatus& before, const contract::TrainingJobStatus& after) {
  if (!after.spares) return 0;
  const auto& all = after.spares->standIns;
  return std::count_if(all.begin(), all.end(), [&before](const contract::StandIn& item) {
    return !before.spares ||
           std::find(before.spares->standIns.begin(), before.spares->standIns.end(), item) == before.spares->standIns.end();
  });
}

void count_live_jobs(observe::Metrics& metrics, const Cluster& cluster, Time now) {
  for (const char* gauge :
       {"trainyard_job_devices", "trainyard_job_step", "trainyard_job_steps", "trainyard_job_loss",
        "trainyard_job_tokens_per_second", "trainyard_job_mfu_ratio", "trainyard_job_progress_timestamp_seconds",
        "trainyard_job_goodput_ratio", "trainyard_job_spares_ready"}) {
    metrics.clear(gauge);
  }
  for (const auto& [key, job] : cluster.jobs()) {
    if (decide::is_true(job.status, condition::kPlaced) && !decide::is_finished(job.status)) tell_of(metrics, job, now);
  }
}

/// The resources that jobs ask for as devices.
std::set<std::string> devices(const Cluster& cluster) {
  std::set<std::string> out{contract::Workers{}.gpuResourceName};
  for (const auto& [key, job] : cluster.jobs()) {
    if (job.spec.workers.gpusPerWorker > 0) out.insert(job.spec.workers.gpuResourceName);
  }
  for (const auto& [key, job] : cluster.packed_jobs()) {
    if (!job.gpu_resource.empty()) out.insert(job.gpu_resource);
  }
  return out;
}

void count_devices(observe::Metrics& metrics, const Cluster& cluster) {
  metrics.clear("trainyard_devices");
  metrics.clear("trainyard_fragmentation_ratio");
  const decide::Topology topology(cluster);
  for (const auto& resource : devices(cluster)) {
    std::int64_t all = 0, unavailable = 0, jobs = 0, others = 0;
    for (std::size_t i = 0; i < topology.num_nodes(); ++i) {
      const auto& node = topology.node(i);
      const std::int64_t has = node.allocatable[resource];
      if (has == 0) continue;
      all += has;
      std::int64_t used = 0;
      for (const auto* pod : cluster.pods_on(node.name)) {
        (pod->worker ? jobs : others) += pod->requests[resource];
        used += pod->requests[resource];
      }
      if (!node.ready || node.unschedulable) unavailable += std::max<std::int64_t>(0, has - used);
    }
    if (all == 0) continue;
    const auto set = [&](const char* state, std::int64_t number) {
      metrics.set("trainyard_devices", {{"resource", resource}, {"state", state}}, static_cast<double>(number));
    };
    set("jobs", jobs);
    set("other_pods", others);
    set("unavailable", unavailable);
    set("free", std::max<std::int64_t>(0, all - jobs - others - unavailable));
    const auto shares = decide::fragmentation(topology, resource);
    for (std::size_t level = 0; level < shares.size(); ++level) {
      const std::string name = level < topology.levels().size() ? topology.levels()[level].name : "node";
      metrics.set("trainyard_fragmentation_ratio", {{"resource", resource}, {"level", name}}, shares[level]);
    }
  }
}

/// Cores, bytes, devices.
double amount_of(const std::string& resource, const contract::Quantity& quantity) {
  const auto amount = static_cast<double>(decide::parse_quantity(resource, quantity.text).value_or(0));
  return resource == "cpu" ? amount / 1'000 : amount;
}

void tell_of_quota(observe::Metrics& metrics, const decide::Queue& queue) {
  for (const auto& flavor : queue.status.usage) {
    for (const auto& usage : flavor.resources) {
      const observe::Labels labels = {
          {"queue", queue.name}, {"flavor", decide::to_text(flavor.nodeLabels)}, {"resource", usage.name}};
      metrics.set("trainyard_queue_quota", labels, amount_of(usage.name, usage.nominal));
      metrics.set("trainyard_queue_used", labels, amount_of(usage.name, usage.used));
      metrics.set("trainyard_queue_borrowed", labels, amount_of(usage.name, usage.borrowed));
    }
  }
}

/// For how long the job has been in the line: since it was made, resumed, or lost its place.
double waited(const Job& job, Time now) {
  Time since = job.created;
  for (const char* type : {condition::kSuspended, condition::kPlaced}) {
    if (decide::is_false(job.status, type)) since = std::max(since, decide::since_of(job.status, type));
  }
  return seconds(since, now);
}

void tell_how_heads_wait(observe::Metrics& metrics, const Cluster& cluster, Time now) {
  std::map<std::string, const Job*> heads;
  for (const auto& [key, job] : cluster.jobs()) {
    if (!job.status.queue || !job.status.queue->position) continue;
    const Job*& head = heads[decide::queue_name(cluster, job)];
    if (head == nullptr || *job.status.queue->position < *head->status.queue->position) head = &job;
  }
  for (const auto& [queue, head] : heads) {
    metrics.set("trainyard_queue_head_wait_seconds", {{"queue", queue}}, waited(*head, now));
  }
}

void count_queues(observe::Metrics& metrics, const Cluster& cluster, Time now) {
  for (const char* gauge : {"trainyard_queue_active", "trainyard_queue_pending", "trainyard_queue_waiting",
                            "trainyard_queue_head_wait_seconds", "trainyard_queue_running", "trainyard_queue_share",
                            "trainyard_queue_quota", "trainyard_queue_used", "trainyard_queue_borrowed"}) {
    metrics.clear(gauge);
  }
  for (const auto& [name, queue] : cluster.queues()) {
    const auto& status = queue.status;
    for (const auto& item : status.conditions) {
      if (item.type != "Active") continue;
      metrics.set("trainyard_queue_active", {{"queue", name}, {"reason", item.reason}},
                  item.status == contract::ConditionStatus::kTrue ? 1 : 0);
    }
    metrics.set("trainyard_queue_pending", {{"queue", name}}, status.pending);
    for (const auto& [reason, jobs] : status.pendingReasons) {
      metrics.set("trainyard_queue_waiting", {{"queue", name}, {"reason", reason}}, jobs);
    }
    metrics.set("trainyard_queue_running", {{"queue", name}}, status.running);
    metrics.set("trainyard_queue_share", {{"queue", name}}, status.weightedShare);
    tell_of_quota(metrics, queue);
  }
  tell_how_heads_wait(metrics, cluster, now);
  std::set<std::string> names{""};
  for (const auto& [name, queue] : cluster.queues()) names.insert(name);
  metrics.keep("trainyard_job_wait_seconds", "queue", names);
}

/// The queue by whose quota it has its place, or else the one that it names.
std::string queue_of(const Job& job, const contract::TrainingJobStatus& status) {
  return status.admission ? status.admission->queue : job.spec.queue.value_or("");
}

}  // namespace

void count_happening(observe::Metrics& metrics, const Job& job, const contract::TrainingJobStatus& last,
                     const contract::TrainingJobStatus& after, Time now) {
  if (last.generation == 0 && after.generation > 0) {
    metrics.observe("trainyard_job_wait_seconds", {{"queue", queue_of(job, after)}}, seconds(job.created, now));
  }
  const auto start_delay = [](const auto& status) { return status.queue ? status.queue->startDelaySeconds : std::nullopt; };
  if (const auto delay = start_delay(after); delay && !start_delay(last)) {
    metrics.observe("trainyard_job_estimate_error_seconds", {}, static_cast<double>(std::abs(*delay)));
  }
  if (becomes(last, after, condition::kRunning)) {
    // After a restart in the same pods it was placed long ago.
    const Time begun = std::max(decide::since_of(after, condition::kPlaced), decide::since_of(last, condition::kRunning));
    metrics.observe("trainyard_job_start_seconds", {}, seconds(begun, now));
  }
  const auto restarts = after.restarts + after.uncountedRestarts - last.restarts - last.uncountedRestarts;
  if (restarts > 0) {
    const std::string of = after.failure ? std::string(contract::name_of(after.failure->failureClass)) : "";
    metrics.add("trainyard_job_restarts_total", {{"class", of}}, restarts);
  }
  if (const auto number = num_new_stand_ins(last, after); number > 0) {
    metrics.add("trainyard_job_spares_used_total", {}, static_cast<double>(number));
  }
  if (after.preemptions > last.preemptions) {
    Job stopped = job;
    stopped.status = last;
    stopped.status.checkpoint = after.checkpoint;
    metrics.add("trainyard_job_preemptions_total");
    metrics.add("trainyard_preemption_lost_device_seconds_total", {}, decide::lost_work(stopped, now));
  }
  for (const char* end : {condition::kComplete, condition::kFailed}) {
    if (!becomes(last, after, end)) continue;
    metrics.add("trainyard_jobs_finished_total", {{"result", end == condition::kComplete ? "Succeeded" : "Failed"}});
    if (const auto ratio = goodput(job.created, after, now)) metrics.observe("trainyard_job_final_goodput_ratio", {}, *ratio);
  }
}

void count_cluster(observe::Metrics& metrics, const Cluster& cluster, Time now) {
  count_jobs(metrics, cluster);
  count_live_jobs(metrics, cluster, now);
  count_devices(metrics, cluster);
  count_queues(metrics, cluster, now);
  metrics.set("trainyard_nodes", {}, static_cast<double>(cluster.nodes().size()));
  metrics.set("trainyard_pods", {}, static_cast<double>(cluster.pods().size()));
}

std::optional<double> goodput(Time created, const contract::TrainingJobStatus& status, Time now) {
  if (!status.progress || status.progress->tokensPerSecond.value_or(0) <= 0) return std::nullopt;
  const Time until = status.completionTime ? contract::parse_rfc3339(*status.completionTime).value_or(now) : now;
  const double passed = seconds(created, until);
  if (passed <= 0) return std::nullopt;
  return std::min(1.0, static_cast<double>(status.progress->tokens) / *status.progress->tokensPerSecond / passed);
}

}  // namespace trainyard::reconcile
