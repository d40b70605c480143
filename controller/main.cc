// trainyard-controller: the one place that knows all parts. It reads flags, makes the threads and the connections, hands them to the
// reconciler, and takes everything down again in an order in which nothing is used after it is gone.

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "controller/agents/polling_agents.h"
#include "controller/cache/cache.h"
#include "controller/decide/decisions.h"
#include "controller/decide/snapshot.h"
#include "controller/flags.h"
#include "controller/kube/brain.h"
#include "controller/kube/credentials.h"
#include "controller/kube/hands.h"
#include "controller/kube/lease_elector.h"
#include "controller/kube/rest_kube_api.h"
#include "controller/kube/watcher.h"
#include "controller/observe/controller_metrics.h"
#include "controller/observe/endpoints.h"
#include "controller/observe/log.h"
#include "controller/observe/metrics.h"
#include "controller/observe/span_exporter.h"
#include "controller/observe/tracing_settings.h"
#include "controller/reconcile/job_metrics.h"
#include "controller/reconcile/job_spans.h"
#include "controller/reconcile/reconciler.h"
#include "crds/contract/signature.h"

namespace {

using namespace trainyard;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kNumHands = 64;            // four plans' worth: pods that hang in an admission webhook do not have all
constexpr std::chrono::seconds kBeat{1};         // the brain shows that it lives so often …
constexpr std::chrono::seconds kCountEach{10};   // what is counted of the cluster; Prometheus reads it about as often
constexpr std::chrono::seconds kBrainHangs{60};  // … and /healthz fails when it has not for so long

contract::Time wall_clock() { return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now()); }

/// The real executor.
class Threads : public reconcile::Executor {
 public:
  contract::Time now() const override { return wall_clock(); }
  milliseconds uptime() const override { return std::chrono::duration_cast<milliseconds>(SteadyClock::now() - begun_); }
  void brain(std::function<void()> task) override { brain_.run(std::move(task)); }
  void brain_after(milliseconds delay, std::function<void()> task) override { brain_.run_after(delay, std::move(task)); }
  void hand(std::function<void()> task) override { hands_.run(std::move(task)); }

  /// Runs `task` on the brain and waits for it.
  void brain_and_wait(const std::function<void()>& task) {
    std::promise<void> done;
    brain_.run([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  void stop_hands() { hands_.stop(); }
  void stop() {
    hands_.stop();
    brain_.stop();
  }

 private:
  const SteadyClock::time_point begun_ = SteadyClock::now();
  kube::Brain brain_;
  kube::Hands hands_{kNumHands};
};

/// What the reconciler does, into log, metrics and, where there is an exporter, traces.
class Reporter : public reconcile::Observer {
 public:
  Reporter(const observe::Log& log, observe::Metrics& metrics, observe::SpanExporter* exporter)
      : log_(log), metrics_(metrics), exporter_(exporter) {}

  void planned(const reconcile::Key& key, const std::vector<std::string>& reasons, std::size_t num_actions,
               std::chrono::microseconds took) override {
    const observe::Labels labels = {{"of", name_of(key)}};
    metrics_.add("trainyard_plans_total", labels);
    metrics_.add("trainyard_actions_total", labels, static_cast<double>(num_actions));
    metrics_.observe("trainyard_plan_seconds", labels, std::chrono::duration<double>(took).count());
    if (reasons.empty() && num_actions == 0) return;
    log_.debug("planned", {{"key", reconcile::to_text(key)}, {"actions", num_actions}, {"reasons", reasons}});
  }
  void requested(std::string_view kind, int status, milliseconds took) override {
    metrics_.add("trainyard_kube_requests_total", {{"action", std::string(kind)}, {"status", std::to_string(status)}});
    metrics_.observe("trainyard_kube_request_seconds", {{"action", std::string(kind)}},
                     std::chrono::duration<double>(took).count());
  }
  void reconciled(const reconcile::Key& key, milliseconds took) override {
    metrics_.observe("trainyard_reconcile_seconds", {{"of", name_of(key)}}, std::chrono::duration<double>(took).count());
  }
  void wrote(const decide::Cluster& cluster, const decide::Job& job, const contract::TrainingJobStatus& before,
             const contract::TrainingJobStatus& after, contract::Time now) override {
    reconcile::count_happening(metrics_, job, before, after, now);
    if (exporter_ != nullptr) exporter_->add(reconcile::ended_spans(cluster, job, before, after, now));
  }
  void warned(std::string_view message, const contract::Json& details) override {
    metrics_.add("trainyard_log_warnings_total", {{"message", std::string(message)}});
    log_.write_object(observe::Level::kWarning, message, details);
  }
  void acting(bool now) override {
    metrics_.set("trainyard_leading", {}, now ? 1 : 0);
    log_.info(now ? "acting: the cluster was read" : "standing by");
  }

 private:
  static std::string name_of(const reconcile::Key& key) {
    return key.kind == reconcile::Kind::kTrainingJob ? "job" : reconcile::to_text(key);
  }

  const observe::Log& log_;
  observe::Metrics& metrics_;
  observe::SpanExporter* exporter_;
};

/// glibc would give each of some sixteen groups of threads a heap of its own, and keep in all of them what lists and bursts of events once
/// needed. With 1,000 jobs four took 2 MB more than two.
void keep_few_heaps() {
#ifdef __GLIBC__
  ::mallopt(M_ARENA_MAX, 2);
#endif
}
void give_memory_back() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

class Controller {
 public:
  Controller(Flags flags, const observe::Log& log)
      : log_(log),
        credentials_(kube::find_credentials(flags.kubeconfig, kube::process_environment())),
        flags_(completed(std::move(flags), credentials_.default_namespace)),
        metrics_(observe::controller_metrics()),
        tracing_(observe::read_tracing_settings(kube::process_environment(), own_attributes(flags_), setting_problems_)),
        exporter_(exporter_of()),
        reporter_(log_, metrics_, exporter_.get()),
        api_(credentials_),
        lease_api_(credentials_),
        agents_([this](agents::Observation observation) { observed(std::move(observation)); }),
        reconciler_(threads_, api_, agents_,
                    reconciler_options(
                        flags_, [this] { return may_write(); }, setting_problems_),
                    reporter_) {}

  void start() {
    metrics_.set("trainyard_leading", {}, 0);
    metrics_.set("process_start_time_seconds", {}, std::chrono::duration<double>(wall_clock().time_since_epoch()).count());
    log_.info("trainyard-controller starts", {{"version", TRAINYARD_VERSION},
                                              {"server", credentials_.server},
                                              {"namespace", flags_.name_space},
                                              {"watch_namespaces", flags_.watch_namespaces},
                                              {"read_cluster", flags_.read_cluster},
                                              {"identity", flags_.identity},
                                              {"leader_election", flags_.leader_elect}});
    if (tracing_) log_.info("sending traces", {{"to", tracing_->url}});
    beat(SteadyClock::now());
    watcher_.emplace(
        credentials_, targets_, [this](kube::WatchBatch batch) { heard(std::move(batch)); },
        kube::WatchOptions{.trouble = [this](std::size_t target, const std::string& what) { watch_trouble(target, what); }});
    if (flags_.metrics_address != kNoFlag) {
      endpoints_.emplace(flags_.metrics_address, answers());
      log_.info("serving /healthz, /readyz and /metrics", {{"port", endpoints_->port()}});
    }
    if (flags_.debug_address != kNoFlag) {
      auto with_snapshot = answers();
      with_snapshot.snapshot = [this] { return snapshot(); };
      debug_endpoints_.emplace(flags_.debug_address, std::move(with_snapshot));
      log_.info("serving /debug/snapshot", {{"port", debug_endpoints_->port()}});
    }
    lead();
  }

  /// In an order in which another controller may act as soon as the lease is released: first nothing is begun any more, then what is
  /// under way ends, then the lease goes.
  ~Controller() {
    ending_ = true;
    threads_.brain_and_wait([this] { reconciler_.stop_leading(); });
    api_.stop();
    threads_.stop_hands();
    elector_.reset();
    endpoints_.reset();
    debug_endpoints_.reset();
    watcher_.reset();
    agents_.stop();
    threads_.stop();
    exporter_.reset();  // which takes seconds where nobody takes the last spans; the lease did not wait for that
    log_.info("trainyard-controller ends");
  }

 private:
  static observe::Attributes own_attributes(const Flags& flags) {
    return {{"service.name", std::string("trainyard-controller")},
            {"service.version", std::string(TRAINYARD_VERSION)},
            {"service.instance.id", flags.identity}};
  }
  /// Nothing where no traces are wanted, or their settings can't be used.
  std::unique_ptr<observe::SpanExporter> exporter_of() {
    if (!tracing_ || !setting_problems_.empty()) return nullptr;
    observe::SpanExporterOptions options{.version = TRAINYARD_VERSION};
    options.counted = [this](const char* result, std::size_t number) {
      metrics_.add("trainyard_trace_spans_total", {{"result", result}}, static_cast<double>(number));
    };
    options.trouble = [this](const std::string& what) {
      if (what.empty()) return log_.info("traces are taken again", {{"to", tracing_->url}});
      log_.warning("traces cannot be sent", {{"to", tracing_->url}, {"error", what}});
    };
    return std::make_unique<observe::SpanExporter>(*tracing_, std::move(options));
  }

  void lead() {
    if (!flags_.leader_elect) return threads_.brain([this] { reconciler_.start_leading(); });
    kube::LeaseCallbacks callbacks{
        .started_leading =
            [this] {
              log_.info("leading");
              threads_.brain([this] { reconciler_.start_leading(); });
            },
        .stopped_leading =
            [this](const std::string& why) {
              log_.write(ending_ ? observe::Level::kInfo : observe::Level::kWarning, "no longer leading", {{"why", why}});
              threads_.brain([this] { reconciler_.stop_leading(); });
            },
        .new_leader =
            [this](const std::string& who) {
              log_.info("another controller leads", {{"leader", who}});
            },
        .trouble =
            [this](const std::string& what) {
              if (what.empty()) return log_.info("the lease works again");
              log_.warning("cannot read or write the lease", {{"error", what}});
            }};
    elector_.emplace(lease_api_, kube::LeaseOptions{.name_space = flags_.name_space, .identity = flags_.identity},
                     std::move(callbacks));
    election_ = &*elector_;
  }

  /// On hands.
  bool may_write() const {
    const kube::LeaseElector* election = election_;
    return !flags_.leader_elect || (election != nullptr && election->is_leader());
  }

  void heard(kube::WatchBatch batch) {
    metrics_.add("trainyard_watch_events_total", {{"collection", collection(batch.target)}},
                 static_cast<double>(batch.events.size()));
    // No more is read before this page was taken. It is freed here, not among what the brain keeps.
    if (batch.has_more) return threads_.brain_and_wait([&] { reconciler_.apply(batch); });
    if (batch.relisted) {
      metrics_.set("trainyard_watch_working", {{"collection", collection(batch.target)}}, 1);
      log_.info("listed", {{"collection", collection(batch.target)}, {"objects", batch.earlier.size() + batch.events.size()}});
    }
    threads_.brain([this, batch = std::move(batch)] { reconciler_.apply(batch); });
  }
  void watch_trouble(std::size_t target, const std::string& what) {
    metrics_.set("trainyard_watch_working", {{"collection", collection(target)}}, what.empty() ? 1 : 0);
    if (what.empty()) {
      log_.info("the watch works again", {{"collection", collection(target)}});
    } else {
      log_.warning("cannot list or watch", {{"collection", collection(target)}, {"error", what}});
    }
  }
  void observed(agents::Observation observation) {
    metrics_.add("trainyard_agent_answers_total", {{"result", observation.state ? "answer" : "error"}});
    threads_.brain([this, observation = std::move(observation)] { reconciler_.apply(observation); });
  }
  std::string collection(std::size_t target) const { return targets_.at(target).path; }

  /// Once a second, on the brain: shows that it lives, and counts what there is.
  void beat(SteadyClock::time_point due) {
    const auto now = SteadyClock::now();
    last_beat_ = now.time_since_epoch().count();
    metrics_.set("trainyard_brain_delay_seconds", {}, std::chrono::duration<double>(now - due).count());
    if (now >= counted_ + kCountEach) {
      reconcile::count_cluster(metrics_, reconciler_.cluster(), wall_clock());
      give_memory_back();
      counted_ = now;
    }
    threads_.brain_after(kBeat, [this, next = now + kBeat] { beat(next); });
  }

  observe::EndpointAnswers answers() {
    return {.health =
                [this] {
                  const SteadyClock::time_point last{SteadyClock::duration{last_beat_.load()}};
                  const auto silent = std::chrono::duration_cast<std::chrono::seconds>(SteadyClock::now() - last);
                  return silent < kBrainHangs ? "" : "nothing was decided for " + std::to_string(silent.count()) + " s";
                },
            .readiness = [this] { return watcher_->synced() ? "" : "what is watched has not all been listed yet"; },
            .metrics =
                [this] {
                  metrics_.set("process_resident_memory_bytes", {}, static_cast<double>(resident_bytes()));
                  return metrics_.text();
                }};
  }

  /// Copied on the brain, written on the thread that asks.
  std::string snapshot() {
    decide::Cluster cluster;
    threads_.brain_and_wait([&] { cluster = reconciler_.cluster(); });
    const auto now = wall_clock();
    decide::Json json = decide::to_json(cluster, now);
    json["version"] = TRAINYARD_VERSION;
    try {
      json["decisionsHash"] = decide::hash_of(decide::decisions(cluster, now));
    } catch (const std::exception& error) {  // what is wanted then is this very snapshot
      json["decisionsHash"] = std::string("none: ") + error.what();
    }
    return json.dump(-1, ' ', false, decide::Json::error_handler_t::replace) + "\n";
  }

  const observe::Log& log_;
  const kube::Credentials credentials_;
  const Flags flags_;
  observe::Metrics metrics_;
  std::vector<std::string> setting_problems_;  // of the environment
  const std::optional<observe::TracingSettings> tracing_;
  std::unique_ptr<observe::SpanExporter> exporter_;  // before api_, which hides the system's authorities from what comes after it
  Reporter reporter_;
  Threads threads_;
  kube::RestKubeApi api_, lease_api_;  // renewals do not wait behind other requests
  agents::PollingAgents agents_;
  reconcile::Reconciler reconciler_;
  std::atomic<bool> ending_ = false;
  std::atomic<SteadyClock::rep> last_beat_{0};
  const std::vector<kube::WatchTarget> targets_ = cache::watch_targets(reconciler_.cluster().settings);
  SteadyClock::time_point counted_{};  // the brain's
  std::optional<kube::Watcher> watcher_;
  std::optional<observe::Endpoints> endpoints_, debug_endpoints_;
  std::optional<kube::LeaseElector> elector_;
  std::atomic<const kube::LeaseElector*> election_ = nullptr;  // elector_, once it is there
};

/// Each agent is a socket: as many as the kernel lets this user have.
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int run(Flags flags, const sigset_t& signals) {
  const observe::Log log(*observe::level_from(flags.log_level));
  try {
    raise_file_limit();
    Controller controller(std::move(flags), log);
    controller.start();
    int signal = 0;
    sigwait(&signals, &signal);
    log.info("asked to end", {{"signal", signal}});
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // a second one ends this at once
    return 0;
  } catch (const std::exception& error) {
    log.error("trainyard-controller cannot go on", {{"error", error.what()}});
    return 1;
  }
}

/// Decides anew on what a snapshot holds, and says whether the controller that it is from decided the same.
int replay(const std::string& file) {
  try {
    std::ifstream stream(file);
    const auto json = decide::Json::parse(stream);
    const auto snapshot = decide::read_snapshot(json);
    const decide::Json decisions = decide::decisions(snapshot.cluster, snapshot.now);
    std::cout << decisions.dump(2, ' ', false, decide::Json::error_handler_t::replace) << "\n";
    const std::string hash = decide::hash_of(decisions), theirs = json.value("decisionsHash", "");
    if (hash == theirs) {
      std::cerr << "the same decisions as the controller's, " << hash << "\n";
      return 0;
    }
    std::cerr << "other decisions than the controller's: " << hash << ", not " << theirs << "; this is version " TRAINYARD_VERSION
              << ", and the snapshot is from " << json.value("version", "another") << "\n";
  } catch (const std::exception& error) {
    std::cerr << "replay " << file << ": " << error.what() << "\n";
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  keep_few_heaps();
  // Before any thread is made, so that all of them leave these signals to run().
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  Flags flags;
  CLI::App app("Places TrainingJobs as gangs and runs them to their end.", "trainyard-controller");
  app.set_version_flag("--version", std::string("trainyard-controller ") + TRAINYARD_VERSION);
  add_flags(app, flags);
  std::string snapshot;
  CLI::App* replaying = app.add_subcommand("replay", "Shows what is decided on a snapshot that /debug/snapshot gave");
  replaying->add_option("SNAPSHOT", snapshot, "Its file")->required()->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  if (replaying->parsed()) return replay(snapshot);
  return run(std::move(flags), signals);
}
