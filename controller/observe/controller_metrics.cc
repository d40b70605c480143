#include "controller/observe/controller_metrics.h"

namespace trainyard::observe {

namespace {

/// From a second to a week.
std::vector<double> wait_buckets() { return {1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 7 * 24 * 3600}; }

}  // namespace

std::vector<MetricDefinition> controller_metrics() {
  using enum MetricType;
  return {
      {"trainyard_leading", kGauge, "1 while this controller acts, 0 while it stands by.", {}},
      {"trainyard_jobs", kGauge, "TrainingJobs by phase.", {}},
      {"trainyard_jobs_waiting", kGauge, "TrainingJobs that wait for their place, by the reason of their condition Placed.", {}},
      {"trainyard_jobs_finished_total", kCounter, "TrainingJobs that have ended, by result.", {}},
      {"trainyard_job_wait_seconds", kHistogram, "From a job's creation to its first place.", wait_buckets()},
      {"trainyard_job_start_seconds", kHistogram,
       "From a gang's place, or its restart there, to its first step; with the engine Custom: until all run.", wait_buckets()},
      {"trainyard_job_restarts_total", kCounter, "Restarts after a failure, by the failure's class.", {}},
      {"trainyard_job_preemptions_total",
       kCounter,
       "Gangs that made room for another: by priority, or by right of its queue.",
       {}},
      {"trainyard_preemption_lost_device_seconds_total",
       kCounter,
       "GPU-seconds (worker-seconds on CPUs) that preempted gangs do again.",
       {}},
      {"trainyard_job_devices", kGauge, "GPUs of a placed job; its workers on CPUs.", {}},
      {"trainyard_job_step", kGauge, "Optimizer steps that a placed job has done.", {}},
      {"trainyard_job_steps", kGauge, "Optimizer steps that it is to do.", {}},
      {"trainyard_job_loss", kGauge, "Its last training loss.", {}},
      {"trainyard_job_tokens_per_second", kGauge, "Its training rate.", {}},
      {"trainyard_job_mfu_ratio", kGauge, "The share of its devices' peak that it uses.", {}},
      {"trainyard_job_progress_timestamp_seconds", kGauge, "When its progress was last told, in seconds since 1970.", {}},
      {"trainyard_job_goodput_ratio", kGauge, "The share of its time since its creation that there is progress to show for.", {}},
      {"trainyard_job_final_goodput_ratio",
       kHistogram,
       "The same of jobs that have ended.",
       {0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99}},
      {"trainyard_devices",
       kGauge,
       "GPUs of the cluster: held by jobs or other_pods, free, or unavailable (cordoned, not ready).",
       {}},
      {"trainyard_fragmentation_ratio",
       kGauge,
       "By level of the topology, the share of the free GPUs that lies in domains of which others are in use.",
       {}},
      {"trainyard_queue_pending", kGauge, "Jobs that wait, by TrainingQueue, as its status has it.", {}},
      {"trainyard_queue_running", kGauge, "Jobs that have their place, by TrainingQueue, as its status has it.", {}},
      {"trainyard_queue_share", kGauge, "Weighted dominant share, by TrainingQueue, as its status has it.", {}},
      {"trainyard_nodes", kGauge, "Nodes of the cluster.", {}},
      {"trainyard_pods", kGauge, "Pods of the cluster, of whomever.", {}},
      {"trainyard_plans_total", kCounter, "Decisions made, by what was looked at.", {}},
      {"trainyard_actions_total", kCounter, "Actions that were decided on, by what was looked at.", {}},
      {"trainyard_plan_seconds", kHistogram, "Time to decide, by what was looked at.", time_buckets()},
      {"trainyard_brain_delay_seconds", kGauge, "How late the thread that decides was for its last beat.", {}},
      {"trainyard_kube_requests_total", kCounter, "Requests to the API server, by action and status; 0 is no answer.", {}},
      {"trainyard_kube_request_seconds", kHistogram, "Time to an answer of the API server, by action.", time_buckets()},
      {"trainyard_watch_working", kGauge, "1 while a collection can be listed and watched, by collection.", {}},
      {"trainyard_watch_events_total", kCounter, "Objects that lists and watches brought, by collection.", {}},
      {"trainyard_agent_answers_total", kCounter, "Polls of agents that ended, by result.", {}},
      {"trainyard_log_warnings_total", kCounter, "Warnings that were logged, by message.", {}},
      {"process_resident_memory_bytes", kGauge, "Resident memory of this process.", {}},
      {"process_start_time_seconds", kGauge, "When this process began, in seconds since 1970.", {}},
  };
}

}  // namespace trainyard::observe
