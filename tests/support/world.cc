#include "tests/support/world.h"

#include <algorithm>
#include <stdexcept>

#include "controller/decide/elastic.h"
#include "controller/decide/node_filter.h"
#include "controller/decide/spares.h"

namespace trainyard::test {

using contract::AgentPhase;
using decide::Pod;
using decide::PodPhase;

World::World(decide::Cluster c) : cluster(std::move(c)) {}

void World::add(decide::Job job) {
  job.created = at(now);
  cluster.put(std::move(job));
}

void World::edit(const std::string& name, const std::function<void(contract::TrainingJobSpec&)>& change) {
  decide::Job edited = job(name);
  change(edited.spec);
  ++edited.generation;
  edited.resource_version = std::to_string(++last_version_);
  cluster.put(std::move(edited));
}

bool World::decide_once() {
  bool acted = false;
  for (const auto& key : cluster.job_keys()) {
    const auto plan = decide::plan_job(cluster, key, at(now));
    if (plan != decide::plan_job(cluster, key, at(now))) throw std::logic_error("plan_job: the same cluster, another plan");
    for (const auto& [uid, assignment] : plan.agents) told_[uid] = assignment;
    acted = carry_out(plan) || acted;
  }
  const auto plans = decide::schedule(cluster, at(now));
  if (plans != decide::schedule(cluster, at(now))) throw std::logic_error("schedule: the same cluster, another plan");
  decide::Cluster packed = cluster;
  packed.pack_resting_jobs();
  if (plans != decide::schedule(packed, at(now))) throw std::logic_error("schedule: a job that rests has a say");
  for (const auto& [key, plan] : plans) {
    const auto refused = refused_at_.find(job(key.name).uid);
    if (refused == refused_at_.end() || refused->second < now) acted = carry_out(plan) || acted;
  }
  packed = cluster;
  packed.pack_resting_jobs();
  const auto queues = decide::plan_queues(cluster, at(now));
  if (queues != decide::plan_queues(packed, at(now))) throw std::logic_error("plan_queues: a job that rests has a say");
  acted = carry_out(queues) || acted;
  return acted;
}

void World::settle() {
  for (int round = 0; round < 100; ++round) {
    const bool acted = decide_once();
    if (kubelets_work) run_kubelets();
    run_agents();
    if (!acted && !decide_once()) return;
  }
  throw std::logic_error("the plans do not come to an end");
}

void World::pass(double seconds) {
  now += seconds;
  settle();
}

void World::succeed_controller() {
  actions_left_.reset();
  decide::Cluster known;
  known.settings = cluster.settings;
  for (const auto& [name, node] : cluster.nodes()) known.put(node);
  for (const auto& [key, claim] : cluster.claims()) known.put(claim);
  for (const auto& [name, volume] : cluster.volumes()) known.put(volume);
  for (const auto& [name, priority_class] : cluster.priority_classes()) known.put(priority_class);
  for (const auto& [name, queue] : cluster.queues()) known.put(queue);
  for (const auto& [name, name_space] : cluster.namespaces()) known.put(name_space);
  for (const auto& [key, pod] : cluster.pods()) {
    known.put(pod);
    if (const auto* agent = cluster.agent(pod.uid)) {
      known.put_agent(pod.uid,
                      {.state = agent->reachable ? agent->state : std::nullopt, .reachable = agent->reachable, .since = at(now)});
    }
  }
  for (const auto& key : cluster.job_keys()) {
    decide::Job read = *cluster.job(key);
    read.status_written = {};
    known.put(std::move(read));
  }
  cluster = std::move(known);
}

bool World::is_quota_used_up() const {
  const auto counts = [](const auto& item) { return !item.second.is_finished(); };
  return pod_quota && std::count_if(cluster.pods().begin(), cluster.pods().end(), counts) >= *pod_quota;
}

std::optional<std::string> World::why_refused(const decide::CreatePod& create) const {
  if (cluster.pod(create.key) == nullptr && is_quota_used_up()) return "exceeded quota: pods";
  return refuse_pod ? refuse_pod(create) : std::nullopt;
}

bool World::carry_out(const decide::Plan& plan) {
  for (const auto& phase : plan.phases) {
    for (const auto& action : phase) {
      if (actions_left_ && (*actions_left_)-- == 0) throw Died{};
      if (const auto* write = std::get_if<decide::WriteStatus>(&action)) {
        decide::Job next = *cluster.job(write->key);
        if (next.resource_version != write->resource_version) return true;  // a conflict: look again
        next.status = write->status;
        next.resource_version = std::to_string(++last_version_);
        next.status_written = at(now);
        cluster.put(std::move(next));
        ++status_writes;
      } else if (const auto* create = std::get_if<decide::CreatePod>(&action)) {
        if (const auto why = why_refused(*create)) {
          const decide::Job& owner = *cluster.job({create->key.ns, pod_from(create->body, "", at(now)).worker->job});
          cluster.put_refusal(
              owner.uid, {.generation = owner.status.generation, .request = "create pod " + create->key.name, .message = *why});
          refused_at_[owner.uid] = now;
          return true;
        }
        if (cluster.pod(create->key) != nullptr) continue;
        contract::Json pod = create->body;
        if (admit_pod) admit_pod(pod);
        cluster.put(pod_from(pod, "pod-" + std::to_string(++last_uid_), at(now)));
      } else if (const auto* remove = std::get_if<decide::DeletePod>(&action)) {
        deleted_pods.push_back(remove->why);
        const Pod* found = cluster.pod(remove->key);
        if (found != nullptr && found->uid == remove->uid) {
          Pod going = *found;
          going.deletion_time = at(now + 30);
          cluster.put(std::move(going));
        }
      } else if (const auto* dry_run = std::get_if<decide::DryRunPod>(&action)) {
        contract::Json pod = dry_run->body;
        if (admit_pod) admit_pod(pod);
        cluster.put_template_check(dry_run->job_uid, dry_run->template_hash,
                                   {.accepted = templates_are_accepted,
                                    .over_quota = is_quota_used_up(),
                                    .message = templates_are_accepted ? "" : template_refusal,
                                    .needs = decide::read_pod_needs(pod.at("spec")),
                                    .beyond_direct = decide::beyond_direct(pod.at("spec")),
                                    .at = at(now)});
      } else if (const auto* event = std::get_if<decide::Event>(&action)) {
        events.push_back(*event);
        if (const auto* agent = cluster.agent(event->pod_uid); agent != nullptr && event->notice > agent->events_made) {
          auto view = *agent;
          view.events_made = event->notice;
          cluster.put_agent(event->pod_uid, std::move(view));
        }
      } else if (const auto* told = std::get_if<decide::WriteQueueStatus>(&action)) {
        decide::Queue next = *cluster.queue(told->name);
        next.status = told->status;
        next.status_written = at(now);
        cluster.put(std::move(next));
      } else if (const auto* gone = std::get_if<decide::DeleteJob>(&action)) {
        cluster.erase_job(gone->key);
      }
    }
  }
  return !plan.phases.empty();
}

/// Pods start on nodes that are ready; those that are deleted go where their node is ready.
void World::run_kubelets() {
  const auto pods = cluster.pods();
  for (const auto& [key, pod] : pods) {
    const auto* node = cluster.node(pod.node);
    const bool runs = cluster.settings.sees_cluster ? node != nullptr && node->ready : !pod.node.empty() || pod.deletion_time;
    if (!pod.worker || !runs) continue;
    if (pod.deletion_time) {
      cluster.erase_pod(key);
    } else if (pod.phase == PodPhase::kPending && pod.worker->waiting_reason.empty()) {
      Pod up = pod;
      up.phase = PodPhase::kRunning;
      up.worker->ip = "10.0.0." + pod.uid.substr(4);
      up.worker->container_running = true;
      const bool has_agent = up.worker->agent_port != 0;
      cluster.put(std::move(up));
      if (!has_agent) continue;
      cluster.put_agent(pod.uid,
                        {.state = contract::State{.version = 1, .podUid = pod.uid}, .reachable = true, .since = at(now)});
    }
  }
}

/// As a worker's agent does, but for what must never be asked of one.
void World::take(const std::string& uid, const contract::Assignment& assignment, contract::State& state) {
  auto& had = taken_[uid];
  if (assignment.generation > state.generation) {
    if (assignment.amends) throw std::logic_error("an amendment of what the agent does not have");
    had = assignment;
    state = {.version = state.version + 1, .podUid = uid, .generation = assignment.generation, .phase = AgentPhase::kStarting};
  } else if (!assignment.amends) {
    auto same = assignment;
    same.checkpointRequest = had.checkpointRequest;
    same.stopAfter = had.stopAfter;
    same.release = had.release;
    if (same != had) throw std::logic_error("the same generation with another content");
  }
  const bool runs = state.phase == AgentPhase::kStarting || state.phase == AgentPhase::kRunning;
  if (assignment.stopAfter && runs) state.phase = AgentPhase::kStopped;
}

/// Agents take assignments of a higher generation, stop when they are asked to, and end when they are released.
void World::run_agents() {
  for (const auto& [uid, assignment] : told_) {
    const auto* agent = cluster.agent(uid);
    if (agent == nullptr || !agent->reachable || !agent->state || !assignment) continue;
    auto view = *agent;
    auto& state = *view.state;
    take(uid, *assignment, state);
    const bool ends = assignment->release;
    const auto last_word = state;
    cluster.put_agent(uid, std::move(view));
    if (!ends) continue;
    const auto pods = cluster.pods();
    for (const auto& [key, pod] : pods) {
      if (pod.uid != uid || pod.is_finished()) continue;
      Pod ended = pod;
      ended.phase = PodPhase::kSucceeded;
      ended.worker->last_word = last_word;
      ended.worker->exit_code = 0;
      cluster.put(std::move(ended));
    }
  }
}

const decide::Job& World::job(const std::string& name) const {
  const auto* found = cluster.job({"default", name});
  if (found == nullptr) throw std::logic_error("no job " + name);
  return *found;
}

contract::Condition World::condition(const std::string& type, const std::string& name) const {
  for (const auto& item : status(name).conditions) {
    if (item.type == type) return item;
  }
  return {};
}

Pod World::pod(int worker, const std::string& name) const {
  const Pod* newest = nullptr;
  std::int64_t generation = -1;
  for (const auto* item : cluster.pods_of(job(name))) {
    const auto* stand_in = decide::stand_in_of(status(name), *item);
    if ((stand_in != nullptr ? stand_in->worker : item->worker->worker) != worker) continue;
    if (const auto its = stand_in != nullptr ? stand_in->generation : item->worker->generation; its > generation) {
      newest = item;
      generation = its;
    }
  }
  if (newest == nullptr) throw std::logic_error("no pod of worker " + std::to_string(worker));
  return *newest;
}

std::vector<std::string> World::pods(const std::string& name) const {
  std::vector<std::string> out;
  for (const auto* item : cluster.pods_of(job(name))) {
    if (!item->is_finished()) out.push_back(item->key.name);
  }
  return out;
}

bool World::has_event(const std::string& reason) const {
  return std::any_of(events.begin(), events.end(), [&reason](const decide::Event& event) { return event.reason == reason; });
}

void World::change_pod(const std::string& name, const std::function<void(Pod&)>& change) {
  Pod changed = *cluster.pod({"default", name});
  change(changed);
  cluster.put(std::move(changed));
}

void World::change_node(const std::string& name, const std::function<void(decide::Node&)>& change) {
  decide::Node changed = *cluster.node(name);
  change(changed);
  cluster.put(std::move(changed));
}

void World::exit(int worker, int code, const std::string& message, const std::string& name) {
  change_pod(pod(worker, name).key.name, [&](Pod& pod) {
    pod.phase = code == 0 ? PodPhase::kSucceeded : PodPhase::kFailed;
    pod.worker->container_running = false;
    pod.worker->exit_code = code;
    pod.worker->exit_reason = code == 0 ? "Completed" : "Error";
    pod.worker->exited_at = at(now);
    pod.worker->exit_message = message;
  });
}

void World::say(int worker, const std::function<void(contract::State&)>& change, const std::string& name) {
  const std::string uid = pod(worker, name).uid;
  auto view = *cluster.agent(uid);
  change(*view.state);
  ++view.state->version;
  cluster.put_agent(uid, std::move(view));
}

const contract::State& World::said(int worker, const std::string& name) const {
  return *cluster.agent(pod(worker, name).uid)->state;
}

std::optional<contract::Assignment> World::told(int worker, const std::string& name) const {
  const auto found = told_.find(pod(worker, name).uid);
  return found == told_.end() ? std::nullopt : found->second;
}

void World::silence(int worker, const std::string& name) {
  auto view = *cluster.agent(pod(worker, name).uid);
  view.reachable = false;
  view.since = at(now);
  view.error = "connect: timed out";
  cluster.put_agent(pod(worker, name).uid, std::move(view));
}

void World::hear(int worker, const std::string& name) {
  auto view = *cluster.agent(pod(worker, name).uid);
  view.reachable = true;
  view.since = at(now);
  cluster.put_agent(pod(worker, name).uid, std::move(view));
}

void World::train(std::int64_t step, const std::string& name) {
  for (int worker = 0; worker < decide::gang_size(job(name)); ++worker) {
    say(
        worker,
        [&](contract::State& state) {
          state.phase = AgentPhase::kRunning;
          if (worker == 0) {
            state.progress =
                contract::Progress{.step = step, .steps = 100, .loss = 10.0 / 3, .updatedAt = contract::to_rfc3339(at(now))};
          }
        },
        name);
  }
}

void World::fail_rank(int worker, contract::Failure failure, bool secondary, const std::string& name) {
  if (failure.at.empty()) failure.at = contract::to_rfc3339(at(now));
  failure.worker = worker;
  say(
      worker,
      [&](contract::State& state) {
        state.phase = AgentPhase::kFailed;
        state.failure = failure;
        state.secondary = secondary;
      },
      name);
}

void World::finish(const std::string& name) {
  for (int worker = 0; worker < decide::gang_size(job(name)); ++worker) {
    say(
        worker, [](contract::State& state) { state.phase = AgentPhase::kSucceeded; }, name);
  }
}

}  // namespace trainyard::test
