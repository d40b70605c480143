#include "tests/simulate/random_story.h"

#include <csignal>
#include <iostream>

#include "controller/cache/decode.h"
#include "tests/support/builders.h"

namespace trainyard::simulate {
namespace {

constexpr milliseconds kFaultGapLow{500}, kFaultGapHigh{15'000};
constexpr seconds kFaultsLast{120};
constexpr seconds kSettleLimit{2'400};  // what a job may take that has used up nearly everything
constexpr seconds kCrowdComes{30}, kHeadStarts{90};
constexpr int kLargestCrowd = 16;  // cpus: more of them cost too much time

std::string reason_of_placed(const contract::TrainingJobStatus& status) {
  for (const auto& condition : status.conditions) {
    if (condition.type == "Placed") return condition.reason;
  }
  return "";
}

}  // namespace

RandomStory::RandomStory(std::uint64_t seed) : world_(seed) {}

void RandomStory::say(const std::string& what) const {
  if (trace_) std::cerr << world_.time.uptime().count() << " ms: " << what << "\n";
}

std::vector<std::string> RandomStory::run(bool trace) {
  if (trace) trace_writes();
  set_up();
  world_.time.after(milliseconds(random(0, 5'000)), [this] { next_fault(); });
  world_.time.run_for(kFaultsLast);
  settle();
  if (!world_.time.run_until(
          [this, looked = seconds(-1)]() mutable {
            const auto now = std::chrono::duration_cast<seconds>(world_.time.uptime());  // once a second is enough
            return std::exchange(looked, now) != now && all_settled();
          },
          kSettleLimit)) {
    problems_.push_back("not every job ended");
  }
  check_end();
  if (is_crowded_ && problems_.empty()) check_head();
  for (const auto& violation : invariants_.violations()) problems_.push_back(violation);
  if (!problems_.empty()) {
    for (const auto& job : jobs_) problems_.push_back(describe(world_, job.name));
  }
  return problems_;
}

void RandomStory::trace_writes() {
  trace_ = true;
  world_.api.on_change(test::kJobs, [this](const test::FakeKubeApi::Change& change) {
    const auto job = cache::decode_job(*change.object);
    std::string text = decide::to_text(job->key) + (change.type == kube::EventType::kDeleted ? " deleted" : "") + ": " +
                       std::string(contract::name_of(job->status.phase)) + ", generation " +
                       std::to_string(job->status.generation) + ", restarts " + std::to_string(job->status.restarts);
    if (job->status.progress) text += ", step " + std::to_string(job->status.progress->step);
    if (job->status.failure) text += ", failure " + job->status.failure->reason;
    for (const auto& condition : job->status.conditions) {
      text += " " + condition.type + (condition.status == contract::ConditionStatus::kTrue ? "+" : "-") + condition.reason;
    }
    say(text);
  });
  world_.api.on_change(test::kNodes, [this](const test::FakeKubeApi::Change& change) {
    const auto node = cache::decode_node(*change.object);
    say(node->name + (node->ready ? " is ready" : " is not ready"));
  });
  world_.api.on_change(test::kPodsPath, [this](const test::FakeKubeApi::Change& change) {
    const auto pod = cache::decode_pod(*change.object);
    const char* what = change.type == kube::EventType::kAdded ? "made" : change.type == kube::EventType::kDeleted ? "gone" : "is";
    say(decide::to_text(pod->key) + " on " + pod->node + " " + what + " " + std::string(contract::name_of(pod->phase)) +
        (pod->deletion_time ? ", dying" : "") + (pod->worker ? " " + pod->worker->reason : ""));
  });
}

void RandomStory::set_up() {
  num_nodes_ = random(1, 4);
  cpus_ = random(4, 8);
  gpus_ = random(0, 1) * random(1, 4);
  world_.add_nodes(num_nodes_, cpus_, gpus_);
  world_.add_priority_class("high", 100);
  world_.add_priority_class("middle", 50);
  world_.add_priority_class("polite", 70, false);
  if (world_.time.one_in(2)) add_queues();
  for (int i = random(1, 4); i > 0; --i) add_job();
  world_.settings.status_interval = seconds(random(2, 20));
  world_.settings.grow_after = seconds(random(1, 40));
  world_.settings.size_retry = seconds(random(1, 400));
  watch_delay_ = {milliseconds(1), milliseconds(world_.time.one_in(3) ? random(20, 2'000) : 20)};
  for (int i = random(1, 3); i > 0; --i) {
    world_.start_controller(i - 1);
    set_up_watches(i - 1);
  }
  set_up_requests();
  is_crowded_ = world_.time.one_in(8) && num_nodes_ * cpus_ <= kLargestCrowd;
}

void RandomStory::add_job() {
  JobShape shape{.name = "job-" + std::to_string(jobs_.size())};
  shape.workers = random(1, 3);
  if (world_.time.one_in(2)) shape.least = random(1, shape.workers);
  shape.processes = random(1, 2);
  shape.gpus = gpus_ > 0 && world_.time.one_in(2) ? 1 : 0;
  shape.steps = random(5, 60);
  shape.checkpoint_every = random(1, 20);
  shape.max_restarts = random(1, 12);
  if (world_.time.one_in(4)) shape.engine = contract::Engine::kCustom;
  if (shape.engine == contract::Engine::kTrainyard && world_.time.one_in(3)) shape.spares = random(1, 2);
  if (world_.time.one_in(3)) shape.binding = contract::Binding::kScheduler;
  if (world_.time.one_in(3)) add_claim_of(shape);
  static constexpr const char* kClasses[] = {"", "", "high", "middle", "polite"};
  shape.priority_class = kClasses[static_cast<std::size_t>(random(0, 4))];
  if (!invariants_.quota.is_empty()) shape.queue = random_leaf();
  jobs_.push_back(shape);
  world_.time.after(milliseconds(random(0, 20'000)), [this, shape] { world_.apply(shape); });
}

/// Each that has none below it can hold every job, by what it may borrow.
void RandomStory::add_queues() {
  static constexpr int kLargest = 3;  // workers of one cpu
  const auto maybe = [this] { return world_.time.one_in(2) ? std::optional<std::int64_t>(kLargest) : std::nullopt; };
  std::vector<CpuQuota::Queue> queues;
  const auto add = [&](const char* name, const std::string& parent, int nominal, bool lends, bool borrows) {
    queues.push_back({.name = name, .parent = parent, .nominal = nominal, .lends = {}, .borrows = {}});
    if (lends) queues.back().lends = maybe();
    if (borrows) queues.back().borrows = maybe();
  };
  add("all", "", 0, false, false);
  const bool is_deep = world_.time.one_in(2);
  if (is_deep) add("department", "all", random(0, kLargest), true, true);
  const std::string above = queues.back().name;
  add("a", above, random(kLargest, 2 * kLargest), true, false);
  add("b", above, random(0, kLargest), false, true);
  if (is_deep) add("c", "all", random(0, kLargest), false, true);
  for (const auto& queue : queues) {
    Json cpu = {{"name", "cpu"}, {"nominal", queue.nominal}};
    if (queue.lends) cpu["lendingLimit"] = *queue.lends;
    if (queue.borrows) cpu["borrowingLimit"] = *queue.borrows;
    Json spec = Json::object();
    if (!queue.parent.empty()) spec = {{"parent", queue.parent}, {"flavors", {{{"resources", {cpu}}}}}};
    world_.add_queue(queue.name, std::move(spec));
  }
  invariants_.quota = CpuQuota(std::move(queues));
}

/// Or none.
std::string RandomStory::random_leaf() {
  const bool is_deep = invariants_.quota.queues().size() > 3;
  static constexpr const char* kLeaves[] = {"", "a", "b", "c"};
  return kLeaves[static_cast<std::size_t>(random(0, is_deep ? 3 : 2))];
}

/// The claim comes before the job or after it, and is bound later still.
void RandomStory::add_claim_of(JobShape& shape) {
  shape.claim = "claim-of-" + shape.name;
  const bool waits = shape.binding == contract::Binding::kScheduler && world_.time.one_in(2);
  world_.time.after(milliseconds(random(0, 40'000)), [this, claim = shape.claim, waits] {
    world_.kubelets.add_claim(claim, waits ? test::kWaitsForConsumer : "");
    if (waits) return;
    world_.time.after(milliseconds(random(0, 40'000)), [this, claim] {
      say("bind " + claim);
      world_.kubelets.bind_claim({"default", claim});
    });
  });
}

void RandomStory::set_up_watches(int controller) { world_.controller(controller)->watcher().set_delay(watch_delay_); }

void RandomStory::set_up_requests() {
  fault_rate_ = world_.time.one_in(2) ? 0 : random(3, 60);
  if (fault_rate_ > 0) invariants_.staleness = seconds(45);
  world_.api.fault_of = [this](const kube::Request& request) {
    if (faults_over_ || !world_.time.one_in(fault_rate_)) return test::Fault::kNone;
    const bool reads = request.method == kube::Method::kGet;
    const auto fault = static_cast<test::Fault>(random(1, static_cast<int>(test::Fault::kBroken)));
    if (reads && (fault == test::Fault::kConflict || fault == test::Fault::kLate)) return test::Fault::kBroken;
    // A pod may be made long after its maker gave the request up, on a node that is taken since: the kubelet then rejects it.
    if (fault == test::Fault::kLate && request.body.contains("/metadata/name"_json_pointer)) {
      invariants_.late_pods.insert("default/" + request.body["metadata"]["name"].get<std::string>());
    }
    return fault;
  };
  if (world_.time.one_in(3)) crash_after_writes_ = random(1, 20);
  world_.api.written = [this](const kube::Request&) {
    if (crash_after_writes_ == 0 || --crash_after_writes_ > 0) return;
    world_.time.after(milliseconds(0), [this] { kill_controller(); });
    if (!faults_over_ && world_.time.one_in(2)) crash_after_writes_ = random(1, 10);
  };
}

void RandomStory::next_fault() {
  if (faults_over_) return;
  static constexpr Fault kFaults[] = {{"kill a controller", &RandomStory::kill_controller},
                                      {"freeze a controller", &RandomStory::freeze_controller},
                                      {"crash a rank", &RandomStory::crash_rank},
                                      {"kill a node", &RandomStory::kill_node},
                                      {"cut a node off", &RandomStory::cut_off_node},
                                      {"delete a pod", &RandomStory::delete_pod},
                                      {"take the API server away", &RandomStory::take_api_away},
                                      {"suspend or resume a job", &RandomStory::suspend_job},
                                      {"delete a job", &RandomStory::delete_job},
                                      {"break a watch", &RandomStory::break_watch},
                                      {"add a foreign pod", &RandomStory::add_foreign_pod},
                                      {"reject pods", &RandomStory::reject_pods},
                                      {"hide an agent", &RandomStory::hide_agent},
                                      {"refuse some pods", &RandomStory::refuse_pods},
                                      {"refuse all more pods than there are", &RandomStory::use_up_quota},
                                      {"edit a job", &RandomStory::edit_job},
                                      {"give a job another priority", &RandomStory::edit_priority},
                                      {"scale a job", &RandomStory::scale_job},
                                      {"ask for other spares", &RandomStory::edit_spares},
                                      {"break a GPU", &RandomStory::break_gpu},
                                      {"taint a node", &RandomStory::taint_node},
                                      {"let a node say that it is unhealthy", &RandomStory::sicken_node},
                                      {"stop a queue", &RandomStory::stop_queue}};
  const auto& fault = kFaults[static_cast<std::size_t>(random(0, static_cast<int>(std::size(kFaults)) - 1))];
  say(fault.name);
  (this->*fault.cause)();
  world_.time.after(world_.time.random_time(kFaultGapLow, kFaultGapHigh), [this] { next_fault(); });
}

std::string RandomStory::random_job() {
  return jobs_[static_cast<std::size_t>(random(0, static_cast<int>(jobs_.size()) - 1))].name;
}
std::string RandomStory::random_node() {
  return world_.nodes()[static_cast<std::size_t>(random(0, static_cast<int>(world_.nodes().size()) - 1))];
}
std::string RandomStory::random_pod() {
  const auto pods = world_.running_pods(random_job());
  return pods.empty() ? "" : pods[static_cast<std::size_t>(random(0, static_cast<int>(pods.size()) - 1))];
}

void RandomStory::kill_controller() {
  const int index = world_.leader() >= 0 ? world_.leader() : random(0, world_.num_controllers() - 1);
  say("controller " + std::to_string(index) + " dies");
  world_.kill_controller(index);
  world_.time.after(milliseconds(random(100, 20'000)), [this, index] {
    world_.start_controller(index);
    set_up_watches(index);
  });
}

void RandomStory::freeze_controller() {
  auto* controller = world_.controller(random(0, world_.num_controllers() - 1));
  if (controller != nullptr) controller->freeze(milliseconds(random(100, 40'000)));
}

void RandomStory::crash_rank() {
  const std::string pod = random_pod();
  const bool by_signal = world_.time.one_in(2);
  if (pod.empty() || world_.programs.crash(pod, by_signal ? 137 : 1)) return;
  world_.workers.crash(pod, by_signal ? 0 : contract::kEngineErrorExitCode, by_signal ? SIGKILL : 0);
}

void RandomStory::kill_node() {
  const std::string node = random_node();
  world_.kubelets.kill(node);
  world_.time.after(milliseconds(random(1'000, 120'000)), [this, node] { world_.kubelets.bring_back(node); });
}

void RandomStory::cut_off_node() {
  const std::string node = random_node();
  world_.kubelets.cut_off(node);
  world_.time.after(milliseconds(random(1'000, 120'000)), [this, node] { world_.kubelets.bring_back(node); });
}

void RandomStory::delete_pod() {
  const auto pods = world_.api.list(test::kPodsPath);
  if (pods.empty()) return;
  const ObjectKey key = cache::key_of(*pods[static_cast<std::size_t>(random(0, static_cast<int>(pods.size()) - 1))]);
  if (world_.time.one_in(3)) {
    world_.api.erase(test::kPodsPath, key);
  } else {
    world_.api.remove(test::kPodsPath, key);
  }
}

void RandomStory::take_api_away() { world_.api.outage(milliseconds(random(500, 30'000))); }

void RandomStory::suspend_job() {
  const std::string job = random_job();
  world_.set_suspend(job, true);
  world_.time.after(milliseconds(random(100, 40'000)), [this, job] {
    say("resume " + job);
    world_.set_suspend(job, false);
  });
}

void RandomStory::delete_job() {
  if (!world_.time.one_in(4)) return;
  const std::string job = random_job();
  if (!world_.api.remove(test::kJobs, job_key(job))) return;
  say("deleted " + job);
  // Somebody may make it again at once, under the same name.
  for (const auto& shape : jobs_) {
    if (shape.name == job && world_.time.one_in(2)) {
      world_.time.after(milliseconds(random(0, 5'000)), [this, shape] { world_.apply(shape); });
    }
  }
}

void RandomStory::break_watch() {
  auto* controller = world_.controller(random(0, world_.num_controllers() - 1));
  if (controller == nullptr) return;
  controller->watcher().relist(static_cast<std::size_t>(random(0, static_cast<int>(cache::kNumWatched) - 1)),
                               milliseconds(random(1, 10'000)));
}

void RandomStory::add_foreign_pod() {
  const std::string name = "foreign-" + std::to_string(++names_);
  Json pod = {{"metadata", {{"name", name}, {"namespace", "other"}}},
              {"spec",
               {{"nodeName", random_node()},
                {"containers", {{{"name", "main"}, {"resources", {{"requests", {{"cpu", std::to_string(random(1, 3))}}}}}}}}}}};
  world_.api.create(test::kPodsPath, std::move(pod));
  world_.time.after(milliseconds(random(1'000, 60'000)), [this, name] { world_.api.erase(test::kPodsPath, {"other", name}); });
}

void RandomStory::reject_pods() { world_.kubelets.reject_next += random(1, 2); }

void RandomStory::hide_agent() {
  const std::string pod = random_pod();
  if (pod.empty()) return;
  world_.workers.hide(pod);
  world_.time.after(milliseconds(random(500, 60'000)), [this, pod] { world_.workers.show(pod); });
}

void RandomStory::refuse_pods() {
  world_.api.refuse_pod = [this](const Json&) {
    return world_.time.one_in(2) ? std::nullopt : std::optional<std::string>("exceeded quota: pods");
  };
  world_.time.after(milliseconds(random(500, 90'000)), [this] { world_.api.refuse_pod = nullptr; });
}

/// As a ResourceQuota does.
void RandomStory::use_up_quota() {
  const auto num_pods = [this] {
    int count = 0;
    for (const auto& object : world_.api.list(test::kPodsPath)) {
      const auto pod = cache::decode_pod(*object);
      count += pod->worker && !pod->is_finished();
    }
    return count;
  };
  world_.api.refuse_pod = [num_pods, most = num_pods() + random(0, 1)](const Json&) {
    return num_pods() < most ? std::nullopt : std::optional<std::string>("exceeded quota: pods");
  };
  world_.time.after(milliseconds(random(500, 150'000)), [this] { world_.api.refuse_pod = nullptr; });
}

void RandomStory::edit_job() {
  const int number = random(1, 20);
  const char* field = world_.time.one_in(2) ? "keep" : "everySteps";
  world_.api.edit(test::kJobs, job_key(random_job()), [&](Json& job) {
    if (job["spec"].contains("checkpoint")) job["spec"]["checkpoint"][field] = number;
  });
}

void RandomStory::edit_priority() {
  const bool is_high = world_.time.one_in(2);
  world_.api.edit(test::kJobs, job_key(random_job()),
                  [&](Json& job) { job["spec"]["priorityClassName"] = is_high ? "high" : "middle"; });
}

/// As `kubectl scale` does, to what the cluster could hold; now and then with another minCount.
void RandomStory::scale_job() {
  JobShape& shape = jobs_[static_cast<std::size_t>(random(0, static_cast<int>(jobs_.size()) - 1))];
  JobShape scaled = shape;
  if (world_.time.one_in(3)) scaled.least = random(1, 2);
  scaled.workers = random(std::max(1, scaled.least), 3);
  const int least = std::exchange(scaled.least, 0);
  if (!fits(scaled) || world_.api.get(test::kJobs, job_key(shape.name)) == nullptr) return;
  scaled.least = least;
  shape = scaled;
  world_.api.edit(test::kJobs, job_key(shape.name), [&](Json& job) {
    job["spec"]["workers"]["count"] = shape.workers;
    if (shape.least > 0) job["spec"]["workers"]["minCount"] = shape.least;
  });
}

void RandomStory::edit_spares() {
  const int number = random(0, 2);
  world_.api.edit(test::kJobs, job_key(random_job()), [number](Json& job) {
    if (job["spec"].value("engine", "Trainyard") == "Trainyard") job["spec"]["workers"]["spares"] = number;
  });
}

void RandomStory::break_gpu() {
  static constexpr const char* kWords = "RuntimeError: CUDA error: uncorrectable ECC error encountered";
  const std::string pod = random_pod();
  if (pod.empty() || world_.programs.crash(pod, 1, kWords)) return;
  world_.workers.crash(pod, contract::kEngineErrorExitCode, 0, kWords);
}

void RandomStory::taint_node() {
  world_.api.edit(test::kNodes, {"", random_node()}, [](Json& node) {
    node["spec"]["taints"] = {{{"key", "example.com/maintenance"}, {"effect", "NoExecute"}}};
  });
  world_.time.after(milliseconds(random(1'000, 90'000)), [this] { mend_nodes(); });
}

void RandomStory::sicken_node() {
  world_.api.edit(test::kNodes, {"", random_node()}, [](Json& node) {
    node["status"]["conditions"][1] = {{"type", "XIDErrors"}, {"status", "True"}};
  });
  world_.time.after(milliseconds(random(1'000, 90'000)), [this] { mend_nodes(); });
}

void RandomStory::mend_nodes() {
  for (const auto& name : world_.nodes()) {
    world_.api.edit(test::kNodes, {"", name}, [](Json& node) {
      node["spec"]["taints"] = Json::array();
      Json& conditions = node["status"]["conditions"];
      if (conditions.size() > 1) conditions.erase(1);
    });
  }
}

void RandomStory::stop_queue() {
  static constexpr const char* kQueues[] = {"all", "a", "b", "department", "c"};
  const std::string queue = kQueues[static_cast<std::size_t>(random(0, invariants_.quota.queues().size() > 3 ? 4 : 2))];
  world_.set_stop(queue, world_.time.one_in(2) ? contract::Stop::kHold : contract::Stop::kDrain);
  world_.time.after(milliseconds(random(100, 40'000)), [this, queue] { world_.set_stop(queue, contract::Stop::kNone); });
}

void RandomStory::settle() {
  say("no more faults");
  faults_over_ = true;
  crash_after_writes_ = 0;
  for (const auto& node : world_.nodes()) {
    if (!world_.kubelets.is_up(node)) world_.kubelets.bring_back(node);
  }
  mend_nodes();
  world_.kubelets.reject_next = 0;
  world_.api.refuse_pod = nullptr;
}

bool RandomStory::all_settled() const {
  for (const auto& job : jobs_) {
    const bool exists = world_.api.get(test::kJobs, job_key(job.name)) != nullptr;
    if (exists && fits(job) && !world_.is_finished(job.name)) return false;
    if (!exists && world_.live_pods(job.name) > 0) return false;
  }
  return true;
}

void RandomStory::check_end() {
  world_.time.run_for(seconds(120));
  for (const auto& job : jobs_) {
    const auto status = world_.status(job.name);
    if (!fits(job) && (status.generation > 0 || reason_of_placed(status) != "NeverFits") &&
        world_.api.get(test::kJobs, job_key(job.name)) != nullptr) {
      problems_.push_back(job.name + " can never be placed, and is not told so");
    }
    if (world_.live_pods(job.name) > 0) problems_.push_back(job.name + " has ended, yet has pods that run");
    if (status.phase == contract::Phase::kFailed && status.restarts < job.max_restarts) {
      problems_.push_back(job.name + " failed before its restarts were used up");
    }
    const bool tells_steps = job.engine == contract::Engine::kTrainyard;
    if (tells_steps && status.phase == contract::Phase::kSucceeded && (!status.progress || status.progress->step != job.steps)) {
      problems_.push_back(job.name + " succeeded, but its status does not tell of the last step");
    }
  }
  const int before = world_.api.num_requests;
  world_.time.run_for(seconds(60));
  if (world_.api.num_requests - before > 3) {
    problems_.push_back("nothing is left to do, yet " + std::to_string(world_.api.num_requests - before) +
                        " requests were made in a minute");
  }
}

/// A job that needs the whole cluster comes while small ones come and go, for each of which there would soon be room again. It stops
/// nobody, and is not to wait for longer than those take that it finds.
void RandomStory::check_head() {
  say("small jobs without end");
  small_jobs_end_ = world_.time.uptime() + kCrowdComes + kHeadStarts;
  next_small_job();
  world_.time.run_for(kCrowdComes);
  world_.apply({.name = "head", .workers = num_nodes_ * cpus_, .steps = 4, .priority_class = "polite"});
  if (!world_.run_until_phase("head", contract::Phase::kRunning, kHeadStarts)) {
    problems_.push_back("the head of the line is starved by small jobs: " + describe(world_, "head"));
  }
}

void RandomStory::next_small_job() {
  if (world_.time.uptime() >= small_jobs_end_) return;
  const int room = num_nodes_ * cpus_;
  JobShape shape{.name = "small-" + std::to_string(++names_)};
  shape.workers = random(std::max(1, room / 3), std::max(1, room / 2));
  shape.steps = random(10, 40);
  if (world_.time.one_in(3)) shape.active_deadline = random(10, 40);
  world_.apply(shape);
  world_.time.after(milliseconds(random(2'000, 5'000)), [this] { next_small_job(); });
}

}  // namespace trainyard::simulate
