// trainyard-worker: `agent` in a worker pod, `run` on any machine.

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "crds/contract/names.h"
#include "worker/agent/agent_command.h"
#include "worker/agent/run_command.h"

namespace {

using namespace trainyard;

/// The rank program lies beside this one.
std::string default_rank_program() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "trainyard-rank" : (self.parent_path() / "trainyard-rank").string();
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void add_agent(CLI::App& app, agent::AgentCommand& command, int& exit_code) {
  auto* sub =
      app.add_subcommand("agent", "Process 1 of a worker pod: starts a rank a GPU, watches them, answers the controller.");
  command.pod_ip = environment(contract::kPodIpVariable);
  command.pod_uid = environment(contract::kPodUidVariable);
  command.node = environment(contract::kNodeNameVariable);
  command.address = command.pod_ip.empty() ? "0.0.0.0" : command.pod_ip;
  command.port = contract::kAgentPort;
  command.key_file = contract::kKeyPath;
  command.rank_program = default_rank_program();
  command.termination_log = "/dev/termination-log";
  sub->add_option("--address", command.address, "Address to listen on; by default the pod's IP")->capture_default_str();
  sub->add_option("--port", command.port, "Port to listen on; 0 takes a free one and logs it")->capture_default_str();
  sub->add_option("--pod-ip", command.pod_ip, "Ranks bind to it; from " + std::string(contract::kPodIpVariable));
  sub->add_option("--pod-uid", command.pod_uid, "From " + std::string(contract::kPodUidVariable));
  sub->add_option("--node", command.node, "Named in failures; from " + std::string(contract::kNodeNameVariable));
  sub->add_option("--key-file", command.key_file, "The job key, 64 hexadecimal digits")->capture_default_str();
  sub->add_option("--rank-program", command.rank_program, "By default trainyard-rank beside this program")->capture_default_str();
  sub->add_option("--termination-log", command.termination_log, "Where the last state goes")->capture_default_str();
  auto* grace = sub->add_option_function<std::int64_t>(
      "--grace-seconds", [&command](std::int64_t seconds) { command.grace = std::chrono::seconds(seconds); },
      "After SIGTERM, ranks have so long for a checkpoint; 110 unless said");
  grace->envname("TRAINYARD_GRACE_SECONDS")->check(CLI::Range(std::int64_t{0}, std::int64_t{86400}));
  sub->callback([&command, &exit_code] {
    if (command.pod_uid.empty()) throw CLI::RequiredError("--pod-uid, or " + std::string(contract::kPodUidVariable));
    exit_code = agent::run_agent(command);
  });
}

void add_run(CLI::App& app, agent::RunCommand& command, int& exit_code) {
  auto* sub = app.add_subcommand("run", "Trains a manifest on this machine, without a cluster.");
  command.rank_program = default_rank_program();
  command.console.terminal = ::isatty(STDOUT_FILENO) == 1;
  sub->add_option("manifest", command.manifest, "A YAML file with one TrainingJob")->required();
  sub->add_option("--path", command.path_mappings, "FROM=TO: what the manifest calls FROM lies here at TO, as in /data=corpus");
  sub->add_option("--every", command.console.every_steps, "Without a terminal: a line of progress every so many steps")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  sub->add_option("--rank-program", command.rank_program, "By default trainyard-rank beside this program")->capture_default_str();
  sub->footer(
      "Exit codes: 0 succeeded; 1 failed; 2 the manifest or the command line has problems; 75 stopped by Ctrl-C or SIGTERM after "
      "a\n"
      "checkpoint, run it again to go on; 130 killed by a second Ctrl-C.");
  sub->callback([&command, &exit_code] { exit_code = agent::run_locally(command, std::cout, std::cerr); });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trainyard's worker. See `trainyard-worker run --help` to train a manifest on this machine.", "trainyard-worker");
  app.set_version_flag("--version", "trainyard-worker " TRAINYARD_VERSION);
  app.require_subcommand(1);
  agent::AgentCommand agent_command;
  agent::RunCommand run_command;
  int exit_code = 0;
  add_agent(app, agent_command, exit_code);
  add_run(app, run_command, exit_code);
  if (argc == 1) {
    std::cerr << app.help();
    return 2;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::invalid_argument& error) {
    std::cerr << "trainyard-worker: " << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "trainyard-worker: " << error.what() << '\n';
    return 1;
  }
  return exit_code;
}
