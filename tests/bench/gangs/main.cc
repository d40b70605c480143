// bench-gangs: from the creation of a TrainingJob until all its pods are bound, beside a bare client that creates the same pods in the
// same run; how long 200 jobs take that fill the cluster 25 times; and how often the controller writes. On simulated nodes, by the
// built controller against a real etcd and kube-apiserver. docs/performance.md has the figures.

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "tests/bench/gangs/bare_client.h"
#include "tests/support/simulated_cluster.h"

namespace {

using namespace trainyard;
using bench::Clock;
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

/// Counts the objects of a collection of which the watch has shown a certain text, by name. A line is searched, not parsed: what
/// measures has the same two cores as what is measured.
class Count {
 public:
  Count(SimulatedCluster& cluster, const std::string& collection, std::string text)
      : credentials_(cluster.credentials()), collection_(collection), text_(std::move(text)) {
    const auto list = cluster.api().perform({.path = collection, .query = {{"limit", "1"}}});
    version_ = list.body.at("metadata").at("resourceVersion");
    thread_ = std::jthread([this] { watch(); });
  }
  ~Count() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    if (wire_) wire_->shut();
  }

  /// When the number was reached.
  Clock::time_point reached(std::size_t number) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kLimit, [&] { return times_.size() >= number; })) {
      throw std::runtime_error("only " + std::to_string(times_.size()) + " of " + std::to_string(number) + " objects had " +
                               text_);
    }
    return times_[number - 1];
  }

 private:
  /// The server ends the watches of a kind whose definition it has just taken in once more.
  void watch() {
    while (true) {
      Wire* wire = nullptr;
      {
        const std::lock_guard lock(mutex_);
        if (ended_) return;
        wire_ = std::make_unique<Wire>(credentials_);
        wire = wire_.get();
      }
      wire->read_lines(collection_ + "?watch=1&resourceVersion=" + version_,
                       [this](const std::string& line) { return heard(line); });
    }
  }
  bool heard(const std::string& line) {
    const auto now = Clock::now();
    static const std::string kVersion = R"("resourceVersion":")";
    if (const auto at = line.find(kVersion); at != std::string::npos) {
      version_ = line.substr(at + kVersion.size(), line.find('"', at + kVersion.size()) - at - kVersion.size());
    }
    if (line.find(text_) == std::string::npos) return true;
    static const std::string kName = R"("name":")";  // the first is that of the metadata
    const auto at = line.find(kName);
    if (at == std::string::npos) return true;
    const auto from = at + kName.size();
    const std::lock_guard lock(mutex_);
    if (names_.insert(line.substr(from, line.find('"', from) - from)).second) times_.push_back(now);
    changed_.notify_all();
    return true;
  }

  const kube::Credentials credentials_;
  const std::string collection_, text_;
  std::string version_;  // the watch's alone
  std::mutex mutex_;
  bool ended_ = false;
  std::unique_ptr<Wire> wire_;
  std::condition_variable changed_;
  std::set<std::string> names_;
  std::vector<Clock::time_point> times_;
  std::jthread thread_;
};

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

/// The pods that the controller made, as anybody could make them: nothing in them says that they are its own.
std::vector<std::string> bodies_of_pods(SimulatedCluster& cluster) {
  std::vector<std::string> bodies;
  Json list = must(cluster.api().perform({.path = kPods})).body;
  for (auto& pod : list.at("items")) {
    pod["metadata"] = {{"name", "bare-" + std::to_string(bodies.size())},
                       {"annotations", pod["metadata"]["annotations"]},
                       {"labels", {{"app.kubernetes.io/managed-by", "nobody"}, {"app.kubernetes.io/name", "bare"}}}};
    pod.erase("status");
    bodies.push_back(pod.dump());
  }
  return bodies;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
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

std::string load() {
  std::ifstream file("/proc/loadavg");
  std::string one;
  file >> one;
  return one;
}

/// "now 21.3 MB, at most 22.0 MB"
std::string memory_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  double now = 0, most = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    double kilobytes = 0;
    words >> name >> kilobytes;
    if (name == "VmRSS:") now = kilobytes / 1024;
    if (name == "VmHWM:") most = kilobytes / 1024;
  }
  char text[64];
  std::snprintf(text, sizeof text, "now %.1f MB, at most %.1f MB", now, most);
  return text;
}

/// What the process and its threads have used of all cores.
double cpu_seconds(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string word;
  double ticks = 0;
  for (int field = 1; file >> word; ++field) {
    if (field == 14 || field == 15) ticks += std::stod(word);  // utime, stime
  }
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
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
        const double before = cpu_seconds(cluster_.controller().pid());
        ours[gang.name].push_back(bound_after(gang));
        cpu[gang.name].push_back(cpu_seconds(cluster_.controller().pid()) - before);
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
      std::printf("  controller's memory: %s\n", memory_of(cluster_.controller().pid()).c_str());
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
          load().c_str());
      std::printf("  rounds:%s\n  bare:  %s\n  CPU seconds of the controller:%s\n", text_of(ours[gang.name]).c_str(),
                  text_of(bare[gang.name]).c_str(), text_of(cpu[gang.name]).c_str());
    }
    std::fflush(stdout);
  }

  /// C: jobs that end a second after their pods run, all created at once. Real agents serve their last state until the controller
  /// releases them; `lingers` tells whether these do, too.
  void drain(int jobs, int workers, int gpus, bool lingers) {
    cluster_.start_fleet(
        {"--step-ms=1000", "--steps-from-start", "--start-ms=1", lingers ? "--linger-ms=60000" : "--linger-ms=0"});
    cluster_.start_controller();
    const auto before = cluster_.count_writes();
    std::vector<std::string> bodies;
    for (int i = 0; i < jobs; ++i) {
      Json job = testing::simulated_job("drain-" + std::to_string(i), workers, gpus, 1);
      bodies.push_back(job.dump());
    }
    Count pods(cluster_, kPods, kSucceeded), ended(cluster_, kJobs, kSucceeded);
    const double cpu = cpu_seconds(cluster_.controller().pid());
    const auto begun = Clock::now();
    const Seconds created = bench::post_all(cluster_.credentials(), kConnections, kJobs, bodies);
    const auto last_pod = pods.reached(static_cast<std::size_t>(jobs * workers));
    const auto last_job = ended.reached(static_cast<std::size_t>(jobs));
    std::printf("C: %d jobs of %d pods x %d GPUs, created in %.2f s, whose agents %s\n", jobs, workers, gpus, created.count(),
                lingers ? "wait to be released" : "end by themselves");
    std::printf("  the last pod had ended after %.2f s (bar 27.6), the last job after %.2f s (load %s)\n",
                Seconds(last_pod - begun).count(), Seconds(last_job - begun).count(), load().c_str());
    print_writes(difference(before, cluster_.count_writes()), jobs, jobs * workers);
    std::printf("  controller: %.1f CPU seconds; memory: %s\n", cpu_seconds(cluster_.controller().pid()) - cpu,
                memory_of(cluster_.controller().pid()).c_str());
    std::fflush(stdout);
    remove_all(cluster_);
    cluster_.stop_controller();
    cluster_.stop_fleet();
  }

 private:
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
  if (wants("A") || wants("B") || wants("C")) {
    Bench bench(32, rounds);
    std::vector<Gang> gangs;
    if (wants("A")) gangs.push_back({"a", "A: one job of 32 pods x 8 GPUs on 32 nodes", 32, 8});
    if (wants("B")) gangs.push_back({"b", "B: one job of 256 pods x 1 GPU on 32 nodes", 256, 1});
    if (!gangs.empty()) bench.place(gangs);
    if (wants("C")) bench.drain(200, 4, 8, false);
    if (wants("C")) bench.drain(200, 4, 8, true);
  }
  if (wants("1024"))
    Bench(1'250, std::min(rounds, 3)).place({{"large", "1,024 pods x 8 GPUs on 1,250 nodes (bar 3 s)", 1'024, 8}});
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 5;
  std::set<std::string> what;
  CLI::App app("How fast gangs get their pods, on simulated nodes.", "bench-gangs");
  app.add_option("--rounds", rounds)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("what", what, "All unless said")->check(CLI::IsMember({"A", "B", "C", "1024"}));
  CLI11_PARSE(app, argc, argv);
  try {
    testing::enter_own_network();
    run(what, rounds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-gangs: %s\n", error.what());
    return 1;
  }
}
