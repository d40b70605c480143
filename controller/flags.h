#pragma once
// The flags of trainyard-controller, and what they make of its parts.

#include <functional>
#include <string>
#include <vector>

#include "controller/reconcile/reconciler.h"

namespace CLI {
class App;
}

namespace trainyard {

inline constexpr const char* kNoFlag = "none";  // CLI11 takes `--flag=` for a flag whose value is the next argument

struct Flags {
  std::string kubeconfig;
  std::string name_space;
  std::string identity;
  std::vector<std::string> watch_namespaces;
  bool read_cluster = false;
  bool leader_elect = false;
  std::string metrics_address = ":8080";
  std::string debug_address = kNoFlag;
  std::string controller_key_file;
  std::string default_image;
  std::vector<std::string> topology_levels = {"zone=topology.kubernetes.io/zone", "host=kubernetes.io/hostname"};
  std::vector<std::string> unhealthy_conditions = decide::Settings{}.unhealthy_conditions;
  std::vector<std::string> maintenance_taints = decide::Settings{}.maintenance_taints;
  std::string log_level = "info";
};

void add_flags(CLI::App& app, Flags& flags);
/// What was left out: the namespace is that of the credentials, the identity a new one.
Flags completed(Flags flags, const std::string& default_namespace);
/// Throws std::runtime_error that lists every flag whose value can't be used, and why; and `other_problems`, of the environment.
reconcile::ReconcilerOptions reconciler_options(const Flags& flags, std::function<bool()> may_write,
                                                const std::vector<std::string>& other_problems = {});

}  // namespace trainyard
