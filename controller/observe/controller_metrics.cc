#include "controller/observe/controller_metrics.h"

namespace trainyard::observe {

std::vector<MetricDefinition> controller_metrics() {
  using enum MetricType;
  return {
      {"trainyard_leading", kGauge, "1 while this controller acts, 0 while it stands by.", {}},
      {"trainyard_jobs", kGauge, "TrainingJobs by phase.", {}},
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
