#include "controller/flags.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "controller/kube/credentials.h"
#include "crds/contract/signature.h"

namespace trainyard {
namespace {

constexpr std::size_t kShortestControllerKey = 32;  // bytes

std::vector<decide::TopologyLevel> topology_of(const std::vector<std::string>& flags, std::string& problems) {
  std::vector<decide::TopologyLevel> levels;
  if (flags == std::vector<std::string>{kNoFlag}) return levels;
  for (const auto& flag : flags) {
    const auto equals = flag.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == flag.size()) {
      problems += "; --topology-levels: `" + flag + "` is not NAME=LABEL";
    } else {
      levels.push_back({.name = flag.substr(0, equals), .label = flag.substr(equals + 1)});
    }
  }
  return levels;
}

std::vector<std::string> list_of(const std::vector<std::string>& flags) {
  return flags == std::vector<std::string>{kNoFlag} ? std::vector<std::string>{} : flags;
}

/// Without repetitions, which would be watched twice.
std::vector<std::string> namespaces_of(std::vector<std::string> names, std::string& problems) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const auto& name : names) {
    const bool is_label = !name.empty() && name.size() <= 63 && name.front() != '-' && name.back() != '-' &&
                          name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
    if (!is_label) problems += "; --watch-namespaces: `" + name + "` is no name of a namespace";
  }
  return names;
}

std::string read_controller_key(const std::string& file, std::string& problems) {
  std::string key = kube::read_credential_file(file);
  key.erase(key.find_last_not_of(" \t\r\n") + 1);
  if (key.size() < kShortestControllerKey) {
    problems += "; --controller-key-file " + file + " has " + std::to_string(key.size()) +
                " bytes: at least 32 are needed, as `openssl rand -hex 32` makes them";
  }
  return key;
}

void check_debug_address(const std::string& address, std::string& problems) {
  const bool is_loopback = address.starts_with("127.") || address.starts_with("[::1]:");
  if (address == kNoFlag || is_loopback) return;
  problems += "; --debug-address: `" + address +
              "` is not on the loopback, as 127.0.0.1:8081: what it serves holds the templates' environment";
}

std::string identity_of_process() {
  char host[256] = "localhost";
  ::gethostname(host, sizeof host - 1);
  return std::string(host) + "_" + std::to_string(::getpid()) + "_" + contract::fresh_nonce().substr(0, 8);
}

}  // namespace

void add_flags(CLI::App& app, Flags& flags) {
  app.add_option("--kubeconfig", flags.kubeconfig, "Else KUBECONFIG, the pod's service account, or ~/.kube/config");
  app.add_option("--namespace", flags.name_space, "Where this controller runs and its Lease lies; by default the credentials'");
  app.add_option("--identity", flags.identity,
                 "This controller's name in the Lease and in events; by default host name and process");
  app.add_option("--watch-namespaces", flags.watch_namespaces,
                 "Run the jobs of these namespaces alone, and see nothing else of the cluster: kube-scheduler chooses the nodes")
      ->delimiter(',');
  app.add_flag(
      "--read-cluster", flags.read_cluster,
      "With --watch-namespaces: read nodes, all pods, volumes, PriorityClasses, queues and namespaces, and choose the nodes");
  app.add_flag("--leader-elect", flags.leader_elect, "Act only while holding the Lease trainyard-controller");
  app.add_option("--metrics-address", flags.metrics_address, "IP:PORT for /metrics, /healthz and /readyz; or none")
      ->capture_default_str();
  app.add_option("--debug-address", flags.debug_address,
                 "A loopback IP:PORT for /debug/snapshot, which `kubectl port-forward` reaches; or none")
      ->capture_default_str();
  app.add_option(
         "--controller-key-file", flags.controller_key_file,
         "A secret of at least 32 bytes, from which each job's key is derived; the same for all controllers of a cluster; "
         "required")
      ->check(CLI::ExistingFile);
  app.add_option("--default-image", flags.default_image, "Of worker containers whose template names none");
  app.add_option("--topology-levels", flags.topology_levels,
                 "NAME=LABEL of nodes, from the widest to the narrowest level; or none")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--unhealthy-node-conditions", flags.unhealthy_conditions,
                 "Types of node conditions that drive gangs from a node where they are True; or none")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--maintenance-taints", flags.maintenance_taints,
                 "Keys of taints with the effect NoSchedule that drive gangs from a node, as NoExecute does; or none")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--log-level", flags.log_level)
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
}

Flags completed(Flags flags, const std::string& default_namespace) {
  if (flags.name_space.empty()) flags.name_space = default_namespace;
  if (flags.identity.empty()) flags.identity = identity_of_process();
  return flags;
}

reconcile::ReconcilerOptions reconciler_options(const Flags& flags, std::function<bool()> may_write,
                                                const std::vector<std::string>& other_problems) {
  std::string problems;
  reconcile::ReconcilerOptions options;
  options.may_write = std::move(may_write);
  options.settings.topology_levels = topology_of(flags.topology_levels, problems);
  options.settings.unhealthy_conditions = list_of(flags.unhealthy_conditions);
  options.settings.maintenance_taints = list_of(flags.maintenance_taints);
  options.settings.default_image = flags.default_image;
  options.settings.controller_namespace = flags.name_space;
  options.settings.namespaces = namespaces_of(flags.watch_namespaces, problems);
  options.settings.sees_cluster = options.settings.namespaces.empty() || flags.read_cluster;
  if (flags.controller_key_file.empty()) {
    problems += "; --controller-key-file is required";
  } else {
    options.writer.controller_key = read_controller_key(flags.controller_key_file, problems);
  }
  options.writer.instance = flags.identity;
  check_debug_address(flags.debug_address, problems);
  for (const auto& problem : other_problems) problems += "; " + problem;
  if (!problems.empty()) throw std::runtime_error("read the settings" + problems);
  return options;
}

}  // namespace trainyard
