#include "tests/support/simulated_cluster.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <atomic>
#include <cstring>
#include <fstream>
#include <future>
#include <stdexcept>
#include <thread>

#include <yaml-cpp/yaml.h>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "tests/crds/yaml.h"
#include "tests/paths.h"
#include "tests/support/helm.h"

namespace trainyard::testing {
namespace {

using kube::Json;
using kube::Method;

constexpr const char* kPodAddresses = "127.100.0.0/16";
constexpr const char* kJobs = "/apis/trainyard.dev/v1alpha1/trainingjobs";
constexpr int kMakers = 16;

// Of the controller's writes alone: each line costs the server time.
constexpr const char* kController = "system:serviceaccount:default:trainyard";
constexpr const char* kAuditPolicy = R"(apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:default:trainyard"], verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
)";

std::string tool(const std::string& name) { return test::kSourceDir + std::string("/.tools/kubernetes/bin/") + name; }
std::string program(const std::string& name) { return test::kBinDir + std::string("/") + name; }

std::vector<std::string> server_flags(bool audit, TemporaryFolder& folder) {
  // No node controller runs, so nobody would take away the taint of new nodes.
  std::vector<std::string> flags = {"--disable-admission-plugins=TaintNodesByCondition"};
  if (audit) {
    const auto policy = folder.write("audit-policy.yaml", kAuditPolicy);
    flags.push_back("--audit-policy-file=" + policy.string());
    flags.push_back("--audit-log-path=" + (policy.parent_path() / "audit.log").string());
    flags.push_back("--audit-log-mode=batch");
    flags.push_back("--audit-log-batch-max-wait=100ms");
  }
  return flags;
}

/// Racks of 4, blocks of 8 and zones of 16, as tests/cluster/fakes.sh makes them.
Json node(int index, int gpus) {
  const std::string name = "fake-" + std::to_string(index);
  const Json amounts = {{"cpu", "96"}, {"memory", "1Ti"}, {"pods", "110"}, {"nvidia.com/gpu", std::to_string(gpus)}};
  return {{"metadata",
           {{"name", name},
            {"annotations", {{"kwok.x-k8s.io/node", "fake"}}},
            {"labels",
             {{"kubernetes.io/hostname", name},
              {"topology.kubernetes.io/zone", "zone-" + std::to_string(index / 16)},
              {"trainyard.test/block", "block-" + std::to_string(index / 8)},
              {"trainyard.test/rack", "rack-" + std::to_string(index / 4)}}}}},
          {"status",
           {{"allocatable", amounts},
            {"capacity", amounts},
            {"phase", "Running"},
            {"conditions", {{{"type", "Ready"}, {"status", "True"}, {"reason", "KubeletReady"}}}}}}};
}

}  // namespace

void enter_own_network() {
  if (::unshare(CLONE_NEWNET) != 0) return;
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  const bool is_up = ::ioctl(socket, SIOCSIFFLAGS, &request) == 0;
  ::close(socket);
  if (!is_up) throw std::runtime_error("bring up the loopback of a new network namespace: " + std::string(std::strerror(errno)));
}

void in_parallel(int count, int threads, const std::function<void(int)>& work) {
  std::atomic<int> next = 0;
  std::vector<std::future<void>> workers;
  for (int i = 0; i < threads; ++i) {
    workers.push_back(std::async(std::launch::async, [&] {
      for (int item = next++; item < count; item = next++) work(item);
    }));
  }
  for (auto& worker : workers) worker.wait();
  for (auto& worker : workers) worker.get();
}

SimulatedCluster::SimulatedCluster(Options options)
    : options_(options),
      server_(std::make_unique<ApiServer>(server_flags(options.audit, folder_))),
      credentials_(kube::read_kubeconfig({.files = {server_->kubeconfig()}})),
      api_(credentials_) {
  if (helm(*server_, {"install", "trainyard"}).wait() != 0) throw std::runtime_error("helm install failed; its words are above");
  key_file_ = folder_.write("key", std::string(64, 'k'));
  account_ = folder_.write("kubeconfig", kubeconfig_of_account());
  make_nodes();
  const std::string manifests = std::string(test::kSourceDir) + "/tests/cluster/manifests/";
  kwok_ = std::make_unique<Program>(
      tool("kwok"),
      std::vector<std::string>{"--kubeconfig=" + server_->kubeconfig().string(), "--config=" + manifests + "kwok-stages.yaml",
                               "--config=" + manifests + "kwok-kubelets.yaml",
                               "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                               "--cidr=" + std::string(kPodAddresses), "--node-ip=127.0.0.1", "--node-lease-duration-seconds=0"});
}

SimulatedCluster::~SimulatedCluster() = default;

void SimulatedCluster::make_nodes() {
  in_parallel(options_.num_nodes, kMakers, [this](int index) {
    const auto made =
        api_.perform({.method = Method::kPost, .path = "/api/v1/nodes", .body = node(index, options_.gpus_per_node)});
    if (!made.ok()) throw std::runtime_error("make a node: " + made.message);
  });
}

std::string SimulatedCluster::kubeconfig_of_account() {
  const auto answer = api_.perform(
      {.method = Method::kPost,
       .path = "/api/v1/namespaces/default/serviceaccounts/trainyard/token",
       .body = {
           {"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}, {"spec", {{"expirationSeconds", 86'400}}}}});
  if (!answer.ok()) throw std::runtime_error("make a token of the chart's account: " + answer.message);
  YAML::Node config = YAML::LoadFile(server_->kubeconfig().string());
  config["users"][0]["user"] = YAML::Node(YAML::NodeType::Map);
  config["users"][0]["user"]["token"] = answer.body.at("status").at("token").get<std::string>();
  return YAML::Dump(config);
}

void SimulatedCluster::start_fleet(const std::vector<std::string>& flags) {
  fleet_.reset();
  std::vector<std::string> all = {"--kubeconfig=" + server_->kubeconfig().string(),
                                  "--controller-key-file=" + key_file_.string()};
  all.insert(all.end(), flags.begin(), flags.end());
  fleet_ = std::make_unique<Program>(program("agent_fleet"), all);
  const std::string before = "control at port ";
  const auto line = fleet_->line_with(before);
  if (!line) throw std::runtime_error("agent_fleet did not start; its words are above");
  fleet_port_ = std::stoi(line->substr(line->find(before) + before.size()));
}

void SimulatedCluster::start_controller(const std::vector<std::string>& flags, std::chrono::milliseconds patience) {
  controller_.reset();
  std::vector<std::string> all = {"--kubeconfig=" + account_.string(), "--controller-key-file=" + key_file_.string(),
                                  "--metrics-address=none",
                                  "--topology-levels=zone=topology.kubernetes.io/zone,block=trainyard.test/block,"
                                  "rack=trainyard.test/rack,host=kubernetes.io/hostname"};
  all.insert(all.end(), flags.begin(), flags.end());
  controller_ = std::make_unique<Program>(program("trainyard-controller"), all);
  if (!controller_->line_with("acting", patience))
    throw std::runtime_error("trainyard-controller did not start; its words are above");
}

std::map<std::string, pid_t> SimulatedCluster::programs() const {
  std::map<std::string, pid_t> out = {
      {"kube-apiserver", server_->pid_of("apiserver")}, {"etcd", server_->pid_of("etcd")}, {"kwok", kwok_->pid()}};
  if (fleet_) out["agent_fleet"] = fleet_->pid();
  if (controller_) out["trainyard-controller"] = controller_->pid();
  return out;
}

Json SimulatedCluster::ask_fleet(const std::string& method, const std::string& target) const {
  namespace http = boost::beast::http;
  boost::asio::io_context io;
  boost::beast::tcp_stream stream(io);
  stream.connect({boost::asio::ip::make_address("127.0.0.1"), static_cast<std::uint16_t>(fleet_port_)});
  http::request<http::empty_body> request(http::string_to_verb(method), target, 11);
  http::write(stream, request);
  boost::beast::flat_buffer buffer;
  http::response<http::string_body> answer;
  http::read(stream, buffer, answer);
  return Json::parse(answer.body(), nullptr, false);
}

std::map<std::string, int> SimulatedCluster::count_writes() const {
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // what is in the log's batch
  std::map<std::string, int> counts;
  std::ifstream log(account_.parent_path() / "audit.log");
  for (std::string line; std::getline(log, line);) {
    const Json entry = Json::parse(line, nullptr, false);
    if (entry.is_discarded() || entry.value("/user/username"_json_pointer, "") != kController) continue;
    const std::string part = entry.value("/objectRef/subresource"_json_pointer, "");
    const bool is_dry = entry.value("requestURI", "").find("dryRun=All") != std::string::npos;
    ++counts[(is_dry ? "dry run of " : "") + entry.value("/objectRef/resource"_json_pointer, "") +
             (part.empty() ? "" : "/" + part)];
  }
  return counts;
}

Json simulated_job(const std::string& name, int workers, int gpus, int steps) {
  Json spec = crd_test::json_from(YAML::Load(R"(
    model: {size: {layers: 2, hiddenSize: 64, heads: 2, feedForwardSize: 128, vocabularySize: 256}}
    data: {train: [{path: /data/train}], tokenizer: {kind: Bytes}, sequenceLength: 64}
    training: {optimizer: {learningRate: 1.0e-3}}
    checkpoint: {path: /checkpoints, everySteps: 10}
  )"));
  spec["training"]["steps"] = steps;
  spec["training"]["globalBatchSize"] = workers * gpus;
  const Json container = {{"name", "worker"}, {"image", "nothing.test/worker:1"}, {"resources", {{"requests", {{"cpu", "1"}}}}}};
  spec["workers"] = {{"count", workers}, {"gpusPerWorker", gpus}, {"template", {{"spec", {{"containers", {container}}}}}}};
  return {{"apiVersion", "trainyard.dev/v1alpha1"}, {"kind", "TrainingJob"}, {"metadata", {{"name", name}}}, {"spec", spec}};
}

}  // namespace trainyard::testing
