#include "tests/simulate/world.h"

#include <algorithm>
#include <utility>

#include "controller/cache/decode.h"
#include "crds/contract/names.h"
#include "tests/support/builders.h"

namespace trainyard::simulate {
namespace {

constexpr milliseconds kDeaf{300};  // until a process that woke up learns that its lease is gone

reconcile::ReconcilerOptions options_for(const decide::Settings& settings, const std::string& key, const std::string& identity,
                                         std::function<bool()> may_write) {
  return {.settings = settings,
          .writer = {.controller_key = key, .instance = identity},
          .pace = {},
          .page_limit = 7,
          .may_write = std::move(may_write)};
}

}  // namespace

Controller::Controller(test::VirtualTime& time, test::FakeKubeApi& api, test::FakeWorkers& workers, kube::LeaseRecord& lease,
                       int identity, const decide::Settings& settings, const std::string& key)
    : time_(time),
      api_(api),
      lease_(lease),
      identity_("controller-" + std::to_string(identity)),
      executor_(time),
      agents_(time, workers,
              [this](agents::Observation seen) { executor_.brain([this, seen = std::move(seen)] { reconciler_.apply(seen); }); }),
      reconciler_(executor_, api, agents_, options_for(settings, key, identity_, [this] { return holds_lease(); }), observer_),
      watcher_(time, api, cache::watch_targets(settings), [this](kube::WatchBatch batch) {
        executor_.brain([this, batch = std::move(batch)] { reconciler_.apply(batch); });
      }) {
  elect();
}

Controller::~Controller() {
  alive_ = nullptr;
  watcher_.stop();
  agents_.stop();
  executor_.stop();
}

void Controller::freeze(milliseconds how_long) {
  executor_.freeze(how_long);
  frozen_until_ = std::max(frozen_until_, time_.uptime() + how_long + kDeaf);
}

void Controller::elect() {
  const milliseconds retry = kLeaseOptions.retry_period;
  time_.after(leads_ ? retry : time_.random_time(retry * 3 / 4, retry * 5 / 4), [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) elect();
  });
  const milliseconds now = time_.uptime();
  if (now < frozen_until_) return;
  if (leads_ && now - held_since_ >= kLeaseOptions.renew_deadline) return stop_leading();
  if (api_.is_away()) return;
  const std::chrono::steady_clock::time_point at{now};
  if (!(lease_ == seen_.record)) seen_ = {lease_, at};
  if (leads_ && seen_.record.holder != identity_) return stop_leading();
  if (!kube::may_acquire(seen_, identity_, at)) return;
  lease_ = kube::acquired_lease(lease_, identity_, kLeaseOptions.duration, time_.now());
  seen_ = {lease_, at};
  held_since_ = now;
  if (std::exchange(leads_, true)) return;
  executor_.brain([this] { reconciler_.start_leading(); });
}

void Controller::stop_leading() {
  leads_ = false;
  executor_.brain([this] { reconciler_.stop_leading(); });
}

World::World(std::uint64_t seed) : time(seed) {
  settings.topology_levels = {{"rack", "topology.test/rack"}};
  settings.default_image = "trainyard.test/worker:dev";
  settings.controller_namespace = "trainyard-system";
}

World::~World() = default;

void World::add_nodes(int number, int cpus, int gpus) {
  for (int i = 0; i < number; ++i) {
    Json allocatable = {{"cpu", std::to_string(cpus)}, {"memory", "64Gi"}};
    if (gpus > 0) allocatable[test::kGpu] = std::to_string(gpus);
    const std::string name = "node-" + std::to_string(nodes_.size());
    const Json labels = {{"topology.test/rack", "rack-" + std::to_string(nodes_.size() / 2)}, {"kubernetes.io/hostname", name}};
    kubelets.add_node(name, std::move(allocatable), labels);
    nodes_.push_back(name);
  }
}

void World::add_priority_class(const std::string& name, int value, bool preempts) {
  api.create(test::kPriorityClasses, {{"apiVersion", "scheduling.k8s.io/v1"},
                                      {"kind", "PriorityClass"},
                                      {"metadata", {{"name", name}}},
                                      {"value", value},
                                      {"preemptionPolicy", preempts ? "PreemptLowerPriority" : "Never"}});
}

void World::add_queue(const std::string& name, Json spec) {
  api.create(test::kQueues, {{"apiVersion", contract::kApiVersion},
                             {"kind", contract::kQueueKind},
                             {"metadata", {{"name", name}}},
                             {"spec", std::move(spec)}});
}

void World::set_stop(const std::string& queue, contract::Stop stop) {
  api.edit(test::kQueues, {"", queue}, [stop](Json& object) { object["spec"]["stop"] = contract::name_of(stop); });
}

void World::start_controller(int index) {
  const auto at = static_cast<std::size_t>(index);
  if (controllers_.size() <= at) controllers_.resize(at + 1);
  if (controllers_[at]) return;
  controllers_[at] = std::make_unique<Controller>(time, api, workers, lease_, ++identities_, settings, controller_key);
}

void World::kill_controller(int index) { controllers_[static_cast<std::size_t>(index)].reset(); }

int World::leader() const {
  for (std::size_t i = 0; i < controllers_.size(); ++i) {
    if (controllers_[i] && controllers_[i]->leads()) return static_cast<int>(i);
  }
  return -1;
}

void World::apply(const JobShape& shape) {
  const bool is_custom = shape.engine == contract::Engine::kCustom;
  const auto job = is_custom ? test::make_custom_job(shape.name, shape.workers, shape.gpus)
                             : test::make_job(shape.name, shape.workers, shape.gpus);
  contract::TrainingJobSpec spec = job.spec;
  spec.workers.processesPerWorker = shape.processes;
  if (shape.least > 0) spec.workers.minCount = shape.least;
  spec.workers.spares = shape.spares;
  spec.workers.templ = {
      {"spec", {{"containers", {{{"name", "worker"}, {"resources", {{"requests", {{"cpu", "1"}, {"memory", "1Gi"}}}}}}}}}}};
  if (!shape.claim.empty()) {
    spec.workers.templ["spec"]["volumes"] =
        Json::array({{{"name", "checkpoints"}, {"persistentVolumeClaim", {{"claimName", shape.claim}}}}});
  }
  if (!shape.queue.empty()) spec.queue = shape.queue;
  if (!shape.priority_class.empty()) spec.priorityClassName = shape.priority_class;
  spec.placement.binding = shape.binding;
  if (is_custom) {
    Json& container = spec.workers.templ["spec"]["containers"][0];
    container["image"] = "trainyard.test/program:dev";
    container["args"] = Json::array({std::to_string((shape.steps + 1) / 2)});
  } else {
    spec.training.steps = shape.steps;
    spec.training.globalBatchSize = 12 * contract::world_size(spec);  // other numbers of workers can share it too
    spec.checkpoint = contract::Checkpoint{.path = "/checkpoints/" + shape.name, .everySteps = shape.checkpoint_every};
  }
  spec.lifecycle.maxRestarts = shape.max_restarts;
  spec.lifecycle.startTimeoutSeconds = shape.start_timeout;
  if (shape.active_deadline > 0) spec.lifecycle.activeDeadlineSeconds = shape.active_deadline;
  spec.lifecycle.checkpointGraceSeconds = 20;
  Json encoded = contract::encode(spec);
  if (is_custom) {
    for (const char* part : {"model", "data", "training"}) encoded.erase(part);
  }
  api.create(test::kJobs, {{"apiVersion", contract::kApiVersion},
                           {"kind", contract::kKind},
                           {"metadata", {{"name", shape.name}, {"namespace", "default"}}},
                           {"spec", std::move(encoded)}});
}

void World::set_suspend(const std::string& job, bool suspend) {
  api.edit(test::kJobs, job_key(job), [suspend](Json& object) { object["spec"]["suspend"] = suspend; });
}

std::string World::uid(const std::string& job) const {
  const Json* object = api.get(test::kJobs, job_key(job));
  return object == nullptr ? "" : cache::uid_of(*object);
}

contract::TrainingJobStatus World::status(const std::string& job) const {
  const Json* object = api.get(test::kJobs, job_key(job));
  if (object == nullptr || !object->contains("status")) return {};
  return contract::decode<contract::TrainingJobStatus>(object->at("status")).value;
}

contract::Phase World::phase(const std::string& job) const {
  const Json* object = api.get(test::kJobs, job_key(job));
  const auto text = object == nullptr ? "" : object->value("/status/phase"_json_pointer, "");
  return contract::enum_from<contract::Phase>(text).value_or(contract::Phase::kPending);
}

bool World::is_finished(const std::string& job) const {
  const auto at = phase(job);
  return at == contract::Phase::kSucceeded || at == contract::Phase::kFailed;
}

bool World::work_is_done(const std::string& job_uid, contract::Engine engine) {
  return engine == contract::Engine::kCustom ? programs.has_finished(job_uid) : workers.truth(job_uid).finished;
}

std::vector<std::string> World::running_pods(const std::string& job) const {
  std::vector<std::string> out;
  for (const auto& object : api.list(test::kPodsPath)) {
    const auto pod = cache::decode_pod(*object);
    if (pod->worker && pod->worker->job == job && (workers.is_running(pod->uid) || programs.is_running(pod->uid)))
      out.push_back(pod->uid);
  }
  return out;
}

int World::live_pods(const std::string& job) const {
  int count = 0;
  for (const auto& object : api.list(test::kPodsPath)) {
    const auto pod = cache::decode_pod(*object);
    if (pod->worker && pod->worker->job == job && !pod->is_finished()) ++count;
  }
  return count;
}

bool World::run_until_phase(const std::string& job, contract::Phase wanted, seconds limit) {
  // Looked at when a job changes alone, since reading a status takes longer than a task.
  std::int64_t seen = -1;
  bool reached = false;
  return time.run_until(
      [&] {
        const auto& changes = api.changes(test::kJobs);
        const std::int64_t revision = changes.empty() ? 0 : changes.back().revision;
        if (std::exchange(seen, revision) != revision) reached = phase(job) == wanted;
        return reached;
      },
      limit);
}

std::string describe(const World& world, const std::string& job) {
  std::string out = "at " + std::to_string(world.time.uptime().count()) + " ms, leader " + std::to_string(world.leader()) + "\n" +
                    contract::encode(world.status(job)).dump(1) + "\n";
  for (const auto& object : world.api.list(test::kPodsPath)) {
    const auto pod = cache::decode_pod(*object);
    out += decide::to_text(pod->key) + " on " + pod->node + ": " + std::string(contract::name_of(pod->phase));
    if (pod->deletion_time) out += ", dying";
    if (pod->worker) out += ", " + pod->worker->reason + " " + pod->worker->waiting_message;
    out += world.workers.is_running(pod->uid) || world.programs.is_running(pod->uid) ? ", runs\n" : "\n";
  }
  return out;
}

}  // namespace trainyard::simulate
