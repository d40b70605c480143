// bench-gangs: from the creation of a TrainingJob until all its pods are bound, beside a bare client that creates the same pods in the
// same run; how long 200 jobs take that fill the cluster 25 times; how many jobs of one pod a second there are; how soon lost pods are
// replaced; how often the controller writes, what it holds, and what all programs use of the processor. On simulated nodes, by the built
// controller against a real etcd and kube-apiserver. docs/performance.md has the figures.

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "tests/bench/gangs/bare_client.h"
#include "tests/bench/gangs/count.h"
#include "tests/bench/gangs/usage.h"
#include "tests/support/simulated_cluster.h"

namespace {

using namespace trainyard;
using bench::Clock;
using bench::Count;
using bench::Usage;
using bench::Wire;
using kube::Json;
using kube::Method;
using std::chrono::seconds;
using testing::SimulatedCluster;
using Seconds = std::chrono::duration<double>;

constexpr int kConnections = 16;
constexpr seconds kLimit{120};
const std::string kJobs = "/apis/trainyard.dev/v1alpha1/namespaces/default/trainingjobs";
const std::string kPods = "/api/v1/namespaces/default/pods";
const std::string kSecrets = "/api/v1/namespaces/default/secrets";

const std::string kBound = R"("nodeName":")";
const std::string kSucceeded = R"("phase":"Succeeded")";

kube::Response must(kube::Response response) {
  if (!response.ok()) throw std::runtime_error("the API server refused: " + response.message);
  return response;
}

std::size_t number_of(SimulatedCluster& cluster, const std::string& path) {
  return must(cluster.api().perform({.path = path, .query = {{"resourceVersion", "0"}}})).body.at("items").size();
}

void remove_all(SimulatedCluster& cluster) {
  const Json options = {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}};
  for (const auto& path : {kJobs, kPods}) {
    must(cluster.api().perform({.method = Method::kDelete, .path = path, .body = options}));
    while (number_of(cluster, path) > 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  cluster.api().perform({.method = Method::kDelete,
                         .path = kSecrets,
                         .query = {{"labelSelector", "app.kubernetes.io/managed-by=trainyard"}},
                         .body = options});
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // until nobody has anything to do any more
}

/// Creates the job over a connection that is open already; when the call returned.
Clock::time_point create(Wire& wire, const Json& job) {
  const std::string body = job.dump();
  const auto end = Clock::now() + seconds(20);
  while (true) {
    const auto answer = wire.send("POST", kJobs, body);
    const auto now = Clock::now();
    if (answer.status == 201) return now;
    if (answer.status != 404 || now > end) throw std::runtime_error("create a job: " + answer.body);  // 404: the kind is new
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

/// As anybody could make it: nothing in it says that it is the controller's.
std::string bare_pod(Json pod, std::size_t number) {
  pod["metadata"] = {{"name", "bare-" + std::to_string(number)},
                     {"annotations", pod["metadata"]["annotations"]},
                     {"labels", {{"app.kubernetes.io/managed-by", "nobody"}, {"app.kubernetes.io/name", "bare"}}}};
  pod.erase("status");
  return pod.dump();
}

/// The pods that the controller made.
std::vector<std::string> bodies_of_pods(SimulatedCluster& cluster) {
  std::vector<std::string> bodies;
  const Json list = must(cluster.api().perform({.path = kPods})).body;
  for (const auto& pod : list.at("items")) bodies.push_back(bare_pod(pod, bodies.size()));
  return bodies;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string text_of(const std::vector<double>& values) {
  std::string out;
  for (const double value : values) {
    char text[32];
    std::snprintf(text, sizeof text, " %.3f", value);
    out += text;
  }
  return out;
}

std::map<std::string, int> difference(const std::map<std::string, int>& before, std::map<std::string, int> after) {
  for (const auto& [what, number] : before) after[what] -= number;
  std::erase_if(after, [](const auto& item) { return item.second == 0; });
  return after;
}

/// Events and progress are apart: how often they are written is a setting.
void print_writes(const std::map<std::string, int>& writes, int jobs, int pods) {
  double a_job = 0;
  std::printf("  writes:");
  for (const auto& [what, number] : writes) {
    std::printf(" %s %d;", what.c_str(), number);
    if (what != "events" && what != "pods" && what != "leases") a_job += number;
  }
  const auto of_pods = writes.find("pods");
  std::printf("\n  a pod %.2f (bar 1.2), a job %.2f (bar 6, progress included here, Events not)\n",
              of_pods == writes.end() ? 0.0 : of_pods->second / static_cast<double>(pods), a_job / jobs);
}

struct Gang {
  std::string name, what;
  int workers, gpus;
};

class Bench {
 public:
  Bench(int nodes, int rounds) : cluster_({.num_nodes = nodes, .audit = true}), rounds_(rounds) {}

  /// A, B and the large one.
  void place(const std::vector<Gang>& gangs) {
    cluster_.start_fleet({"--step-ms=100"});
    cluster_.start_controller();
    std::map<std::string, std::vector<std::string>> bodies;
    for (const auto& gang : gangs) {
      bound_after(gang);
      bodies[gang.name] = bodies_of_pods(cluster_);
      remove_all(cluster_);
    }
    cluster_.stop_controller();
    cluster_.stop_fleet();
    std::map<std::string, std::vector<double>> bare, ours, cpu;
    for (const auto& gang : gangs) bare[gang.name] = bare_rounds(bodies[gang.name]);
    cluster_.start_controller();
    for (const auto& gang : gangs) {
      for (int i = 0; i < rounds_; ++i) {
        const double before = bench::cpu_seconds(cluster_.controller().pid());
        ours[gang.name].push_back(bound_after(gang));
        cpu[gang.name].push_back(bench::cpu_seconds(cluster_.controller().pid()) - before);
        remove_all(cluster_);
      }
    }
    cluster_.start_fleet({"--step-ms=100"});  // whose load would count as the controller's
    for (const auto& gang : gangs) {
      std::printf("%s\n", gang.what.c_str());
      const auto before = cluster_.count_writes();
      bound_after(gang);
      end(gang);
      remove_all(cluster_);
      print_writes(difference(before, cluster_.count_writes()), 1, gang.workers);
      std::printf("  controller's memory: %s\n", bench::memory_of(cluster_.controller().pid()).c_str());
    }
    cluster_.stop_controller();
    cluster_.stop_fleet();
    for (const auto& gang : gangs) {
      const auto more = bare_rounds(bodies[gang.name]);
      bare[gang.name].insert(bare[gang.name].end(), more.begin(), more.end());
      const double mine = median(ours[gang.name]), floor = median(bare[gang.name]);
      std::printf(
          "%s: %.3f s until all pods were bound, a bare client %.3f s: %.2f x; bar 1.3 x + 0.050 s = %.3f s: %s (load %s)\n",
          gang.name.c_str(), mine, floor, mine / floor, 1.3 * floor + 0.05, mine <= 1.3 * floor + 0.05 ? "met" : "NOT met",
          bench::load().c_str());
      std::printf("  rounds:%s\n  bare:  %s\n  CPU seconds of the controller:%s\n", text_of(ours[gang.name]).c_str(),
                  text_of(bare[gang.name]).c_str(), text_of(cpu[gang.name]).c_str());
    }
    std::fflush(stdout);
  }

  /// Of C: pods alone, as the other systems' were measured; or with agents, who tell of a step. Real agents serve their last state until
  /// the controller releases them.
  enum class Ends { kPodsAlone, kAgents, kAgentsThatLinger };

  /// C: jobs that end a second after their pods run, all created at once. The server has compiled the kind's rules by then, as for A and B.
  void drain(int jobs, int workers, int gpus, Ends ends) {
    if (ends != Ends::kPodsAlone) {
      cluster_.start_fleet({"--step-ms=1000", "--steps-from-start", "--start-ms=1",
                            ends == Ends::kAgentsThatLinger ? "--linger-ms=60000" : "--linger-ms=0"});
    }
    cluster_.start_controller();
    std::vector<std::string> bodies;
    const auto job = [&](const std::string& name) {
      return ends == Ends::kPodsAlone ? custom_job(name, workers, gpus, "1s") : testing::simulated_job(name, workers, gpus, 1);
    };
    for (int i = 0; i < jobs; ++i) bodies.push_back(job("drain-" + std::to_string(i)).dump());
    {
      Count first(cluster_, kJobs, kSucceeded);
      bench::post_all(cluster_.credentials(), 1, kJobs, {job("first").dump()});
      first.reached(1);
      remove_all(cluster_);
    }
    const auto before = cluster_.count_writes();
    Count pods(cluster_, kPods, kSucceeded), ended(cluster_, kJobs, kSucceeded);
    const Usage usage = use();
    const auto begun = Clock::now();
    const Seconds created = bench::post_all(cluster_.credentials(), kConnections, kJobs, bodies);
    const auto last_pod = pods.reached(static_cast<std::size_t>(jobs) * static_cast<std::size_t>(workers));
    const auto last_job = ended.reached(static_cast<std::size_t>(jobs));
    std::printf("C: %d jobs of %d pods x %d GPUs, created in %.2f s, %s\n", jobs, workers, gpus, created.count(),
                ends == Ends::kPodsAlone ? "pods alone"
                : ends == Ends::kAgents  ? "whose agents end by themselves"
                                         : "whose agents wait to be released");
    std::printf("  the last pod had ended after %.2f s (bar 27.6), the last job after %.2f s (load %s)\n",
                Seconds(last_pod - begun).count(), Seconds(last_job - begun).count(), bench::load().c_str());
    std::printf("  CPU seconds: %s\n", usage.text().c_str());
    print_writes(difference(before, cluster_.count_writes()), jobs, jobs * workers);
    std::printf("  controller's memory: %s\n", bench::memory_of(cluster_.controller().pid()).c_str());
    std::fflush(stdout);
    remove_all(cluster_);
    cluster_.stop_controller();
    if (ends != Ends::kPodsAlone) cluster_.stop_fleet();
  }

  /// Jobs of one pod that ends at once. All of them wait, and were told so, until the pods go that hold all GPUs. The bare client makes as many
  /// such pods before and after: what the machine does in a second changes within minutes.
  void one_pod_jobs(int number) {
    await(kJobs, [](const Json&) { return true; });  // the kind may be new
    std::vector<std::string> jobs;
    for (int i = 0; i < number; ++i) jobs.push_back(custom_job("one-" + std::to_string(i), 1, 1, "0s").dump());
    cluster_.start_controller();
    const std::vector<std::string> bodies = bodies_like_the_pod_of(custom_job("first", 1, 1, "0s"), number);
    cluster_.stop_controller();
    std::vector<double> bare = bare_rounds(bodies);
    cluster_.start_controller();
    hold_all_gpus();
    const auto before = cluster_.count_writes();
    Count told(cluster_, kJobs, R"("type":"Placed")"), ended(cluster_, kJobs, kSucceeded);
    bench::post_all(cluster_.credentials(), kConnections, kJobs, jobs);
    told.reached(static_cast<std::size_t>(number));
    const Usage usage = use();
    let_gpus_go();
    const auto begun = Clock::now();
    const Seconds took = ended.reached(static_cast<std::size_t>(number)) - begun;
    std::printf("%d pending jobs of one pod that ends at once\n  CPU seconds: %s\n", number, usage.text().c_str());
    const auto writes = difference(before, cluster_.count_writes());
    print_writes(writes, number, number);
    std::printf("  controller's memory: %s (bar 40)\n", bench::memory_of(cluster_.controller().pid()).c_str());
    cluster_.stop_controller();
    remove_all(cluster_);
    const auto after = bare_rounds(bodies);
    bare.insert(bare.end(), after.begin(), after.end());
    double all = 0;
    for (const auto& [what, count] : writes) all += what == "events" || what == "leases" ? 0 : count;
    const double w = all / number, rate = number / took.count(), floor = number / mean(bare), bar = 0.7 * floor / w;
    std::printf(
        "  %.1f jobs/s in %.2f s; a bare client W %.0f writes/s, w %.2f writes a job (bar 7); bar 0.7 W/w = %.1f: %s (load %s)\n"
        "  bare, before and after:%s s\n",
        rate, took.count(), floor, w, bar, rate >= bar && w <= 7 ? "met" : "NOT met", bench::load().c_str(),
        text_of(bare).c_str());
    std::fflush(stdout);
  }

  /// How soon what happens is answered.
  void reactions() {
    cluster_.start_fleet({"--step-ms=100"});
    cluster_.start_controller();
    std::vector<double> whole, replaced, told;
    for (int i = 0; i < rounds_; ++i) {
      whole.push_back(whole_after_a_pod_was_killed(i));
      replaced.push_back(replaced_after_a_taint(i));
      told.push_back(told_of_the_impossible(i));
    }
    const auto print = [](const char* what, const std::vector<double>& took, double bar) {
      const double most = *std::max_element(took.begin(), took.end());
      std::printf("%s:%s s; bar %.0f s: %s\n", what, text_of(took).c_str(), bar, most <= bar ? "met" : "NOT met");
    };
    print("from a killed pod to the whole new gang of 32 running", whole, 5);
    print("from a taint to the replacement pod", replaced, 2);
    print("from an impossible request to its reason in the status", told, 1);
    std::printf("  (load %s)\n", bench::load().c_str());
    std::fflush(stdout);
    cluster_.stop_controller();
    cluster_.stop_fleet();
  }

  /// What the controller holds of so many jobs, which were suspended before it began. No two have the same spec or template.
  void memory(int number) {
    await(kJobs, [](const Json&) { return true; });
    std::vector<std::string> jobs;
    for (int i = 0; i < number; ++i) {
      const std::string name = "many-" + std::to_string(i);
      Json job = testing::simulated_job(name, 4, 8, 1'000);
      Json& spec = job["spec"];
      spec["suspend"] = true;
      spec["checkpoint"]["path"] = "/checkpoints/" + name;
      Json& container = spec["workers"]["template"]["spec"]["containers"][0];
      container["args"] = {"--experiment", name, "--notes", "one of " + std::to_string(number)};
      container["env"] = Json::array({{{"name", "EXPERIMENT"}, {"value", name}}});
      jobs.push_back(job.dump());
    }
    bench::post_all(cluster_.credentials(), kConnections, kJobs, jobs);
    Count suspended(cluster_, kJobs, R"("phase":"Suspended")");
    cluster_.start_controller({}, testing::kPatience + number * std::chrono::milliseconds(4));  // reads them all before it acts
    suspended.reached(static_cast<std::size_t>(number));
    const auto print = [&](const char* when) {
      std::printf("%d jobs, %s: controller's memory: %s (bars: 40 MB with 1,000, 150 MB with 50,000)\n", number, when,
                  bench::memory_of(cluster_.controller().pid()).c_str());
      std::fflush(stdout);
    };
    print("told of all");
    std::this_thread::sleep_for(seconds(15));  // every ten it gives back what it does not need
    print("at rest");
    cluster_.stop_controller();
  }

 private:
  Usage use() const {
    auto programs = cluster_.programs();
    programs["this client"] = ::getpid();
    return Usage(std::move(programs));
  }
  void hold_all_gpus() {
    std::vector<std::string> pods;
    for (int i = 0; i < 32; ++i) {
      const Json container = {{"name", "holder"},
                              {"image", "nothing.test/holder:1"},
                              {"resources", {{"limits", {{"nvidia.com/gpu", "8"}}}, {"requests", {{"nvidia.com/gpu", "8"}}}}}};
      const Json pod = {{"metadata", {{"name", "holder-" + std::to_string(i)}, {"labels", {{"app", "holder"}}}}},
                        {"spec", {{"nodeName", "fake-" + std::to_string(i)}, {"containers", {container}}}}};
      pods.push_back(pod.dump());
    }
    bench::post_all(cluster_.credentials(), kConnections, kPods, pods);
  }
  void let_gpus_go() {
    must(cluster_.api().perform({.method = Method::kDelete,
                                 .path = kPods,
                                 .query = {{"labelSelector", "app=holder"}},
                                 .body = {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"gracePeriodSeconds", 0}}}));
  }
  /// Any program, which ends so long after its pod runs.
  static Json custom_job(const std::string& name, int workers, int gpus, const std::string& after) {
    const Json container = {{"name", "worker"}, {"image", "nothing.test/program:1"}};
    const Json templ = {{"metadata", {{"annotations", {{"trainyard.test/complete-after", after}}}}},
                        {"spec", {{"containers", {container}}}}};
    return {{"apiVersion", "trainyard.dev/v1alpha1"},
            {"kind", "TrainingJob"},
            {"metadata", {{"name", name}}},
            {"spec", {{"engine", "Custom"}, {"workers", {{"count", workers}, {"gpusPerWorker", gpus}, {"template", templ}}}}}};
  }

  /// As the job's one pod, on all nodes in turn.
  std::vector<std::string> bodies_like_the_pod_of(const Json& job, int number) {
    begin(job);
    const Json list = await(kPods, [](const Json& pods) { return pods.at("items").size() == 1; });
    Json pod = list.at("items").at(0);
    std::vector<std::string> bodies;
    for (int i = 0; i < number; ++i) {
      pod["spec"]["nodeName"] = "fake-" + std::to_string(i % 32);
      bodies.push_back(bare_pod(pod, bodies.size()));
    }
    remove_all(cluster_);
    return bodies;
  }

  /// Until the object is as wanted.
  Json await(const std::string& path, const std::function<bool(const Json&)>& is_wanted) {
    const auto end = Clock::now() + kLimit;
    while (true) {
      const auto response = cluster_.api().perform({.path = path});
      if (response.ok() && is_wanted(response.body)) return response.body;
      if (Clock::now() > end) throw std::runtime_error(path + " did not become what was waited for");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  static std::function<bool(const Json&)> runs_in_generation(int generation) {
    return [generation](const Json& job) {
      return job.value("/status/generation"_json_pointer, 0) == generation &&
             job.value("/status/phase"_json_pointer, "") == "Running";
    };
  }
  void begin(const Json& job) {
    Wire wire(cluster_.credentials());
    create(wire, job);
  }

  double whole_after_a_pod_was_killed(int round) {
    const std::string name = "killed-" + std::to_string(round);
    begin(testing::simulated_job(name, 32, 8, 100'000));
    await(kJobs + "/" + name, runs_in_generation(1));
    const auto begun = Clock::now();
    must(cluster_.api().perform({.method = Method::kDelete,
                                 .path = kPods + "/" + name + "-7-1",
                                 .body = {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"gracePeriodSeconds", 0}}}));
    await(kJobs + "/" + name, runs_in_generation(2));
    const Seconds took = Clock::now() - begun;
    remove_all(cluster_);
    return took.count();
  }

  double replaced_after_a_taint(int round) {
    const std::string name = "drained-" + std::to_string(round);
    begin(testing::simulated_job(name, 24, 8, 100'000));
    await(kJobs + "/" + name, runs_in_generation(1));
    const std::string node = cluster_.api().perform({.path = kPods + "/" + name + "-7-1"}).body.at("spec").at("nodeName");
    const auto taint = [&](const Json& taints) {
      must(cluster_.api().perform({.method = Method::kPatch,
                                   .path = "/api/v1/nodes/" + node,
                                   .body = {{"spec", {{"taints", taints}}}},
                                   .content_type = "application/merge-patch+json"}));
    };
    const auto begun = Clock::now();
    taint({{{"key", "example.com/maintenance"}, {"effect", "NoExecute"}}});
    await(kPods, [&node](const Json& list) {
      const auto& pods = list.at("items");
      return pods.size() == 24 &&
             std::none_of(pods.begin(), pods.end(), [&node](const Json& pod) { return pod.at("spec").at("nodeName") == node; });
    });
    const Seconds took = Clock::now() - begun;
    taint(Json::array());
    remove_all(cluster_);
    return took.count();
  }

  double told_of_the_impossible(int round) {
    const std::string name = "impossible-" + std::to_string(round);
    const auto begun = Clock::now();
    begin(testing::simulated_job(name, 4, 64, 10));
    await(kJobs + "/" + name, [](const Json& job) {
      const Json conditions = job.value("/status/conditions"_json_pointer, Json::array());
      return std::any_of(conditions.begin(), conditions.end(),
                         [](const Json& condition) { return condition.value("reason", "") == "NeverFits"; });
    });
    const Seconds took = Clock::now() - begun;
    remove_all(cluster_);
    return took.count();
  }

  double bound_after(const Gang& gang) {
    Wire wire(cluster_.credentials());
    Count bound(cluster_, kPods, kBound);
    const auto created = create(wire, testing::simulated_job(gang.name, gang.workers, gang.gpus, 10));
    return Seconds(bound.reached(static_cast<std::size_t>(gang.workers)) - created).count();
  }
  void end(const Gang& gang) {
    const auto end = Clock::now() + kLimit;
    const auto phase = [&] {
      return cluster_.api().perform({.path = kJobs + "/" + gang.name}).body.at("status").value("phase", "");
    };
    while (phase() != "Succeeded") {
      if (Clock::now() > end) throw std::runtime_error("job " + gang.name + " did not succeed; it is " + phase());
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  std::vector<double> bare_rounds(const std::vector<std::string>& bodies) {
    std::vector<double> out;
    for (int i = 0; i < rounds_; ++i) {
      out.push_back(bench::post_all(cluster_.credentials(), kConnections, kPods, bodies).count());
      remove_all(cluster_);
    }
    return out;
  }

  SimulatedCluster cluster_;
  const int rounds_;
};

void run(const std::set<std::string>& what, int rounds) {
  const auto wants = [&what](const char* name) { return what.empty() || what.contains(name); };
  if (wants("A") || wants("B") || wants("C") || wants("one-pod") || wants("reactions")) {
    Bench bench(32, rounds);
    std::vector<Gang> gangs;
    if (wants("A")) gangs.push_back({"a", "A: one job of 32 pods x 8 GPUs on 32 nodes", 32, 8});
    if (wants("B")) gangs.push_back({"b", "B: one job of 256 pods x 1 GPU on 32 nodes", 256, 1});
    if (!gangs.empty()) bench.place(gangs);
    if (wants("C")) {
      for (const auto ends : {Bench::Ends::kPodsAlone, Bench::Ends::kAgents, Bench::Ends::kAgentsThatLinger})
        bench.drain(200, 4, 8, ends);
    }
    if (wants("reactions")) bench.reactions();
    if (wants("one-pod")) bench.one_pod_jobs(1'000);
  }
  if (wants("1024"))
    Bench(1'250, std::min(rounds, 3)).place({{"large", "1,024 pods x 8 GPUs on 1,250 nodes (bar 3 s)", 1'024, 8}});
  if (wants("memory")) Bench(32, rounds).memory(1'000);
  if (what.contains("memory-of-10000")) Bench(32, rounds).memory(10'000);
  if (what.contains("memory-of-50000")) Bench(32, rounds).memory(50'000);
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 5;
  std::set<std::string> what;
  CLI::App app("How fast gangs get their pods, on simulated nodes.", "bench-gangs");
  app.add_option("--rounds", rounds)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("what", what, "All unless said, but for the last two, whose jobs take minutes to make")
      ->check(CLI::IsMember({"A", "B", "C", "1024", "one-pod", "reactions", "memory", "memory-of-10000", "memory-of-50000"}));
  CLI11_PARSE(app, argc, argv);
  try {
    testing::enter_own_network();
    run(what, rounds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-gangs: %s\n", error.what());
    return 1;
  }
}
