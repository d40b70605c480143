#include "worker/agent/agent_command.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>
#include <stdexcept>

#include <sys/prctl.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include "crds/contract/names.h"
#include "worker/agent/agent.h"
#include "worker/agent/agent_service.h"
#include "worker/agent/cgroup.h"
#include "worker/agent/http_server.h"
#include "worker/agent/log.h"
#include "worker/agent/pod_log.h"
#include "worker/agent/rank_process.h"

namespace trainyard::agent {
namespace {

namespace asio = boost::asio;

std::string read_key(const std::string& path) {
  std::ifstream file(path);
  std::string key;
  file >> key;
  if (key.size() != 64 || key.find_first_not_of("0123456789abcdef") != std::string::npos) {
    throw std::runtime_error("read the job key from " + path +
                             ": there are no 64 hexadecimal digits there; the controller mounts the job's Secret at this place");
  }
  return key;
}

/// To the pod's log.
void pass_through(std::int32_t rank, std::string_view line) {
  static LineWriter writer(STDOUT_FILENO);
  writer.write("[rank " + std::to_string(rank) + "] " + std::string(line));
}

std::chrono::milliseconds uptime() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace

int run_agent(const AgentCommand& command) {
  const std::string key = read_key(command.key_file);
  check_rank_program(command.rank_program);
  std::signal(SIGPIPE, SIG_IGN);
  // In a pod this is process 1 and reaps orphans anyhow; elsewhere the kernel has to be told.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);

  asio::io_context io(1);
  int exit_code = 0;
  std::optional<AgentService> service;
  AgentOptions options;
  options.worker = {.pod_uid = command.pod_uid, .bind_address = command.pod_ip, .node = command.node, .cpus = usable_cpus()};
  options.limits.grace = command.grace;
  options.rank_program = command.rank_program;
  options.termination_log = command.termination_log;
  options.log = write_log;
  options.reap_orphans = true;
  PodLog log(write_log);
  std::optional<Agent> agent;
  agent.emplace(io, options,
                Agent::Callbacks{.log_line = pass_through,
                                 .published =
                                     [&] {
                                       log.state(agent->state(), agent->measured(), uptime());
                                       if (service) service->published();
                                     },
                                 .ended =
                                     [&](int code) {
                                       exit_code = code;
                                       io.stop();
                                     }});
  service.emplace(io, *agent, key);
  HttpServer server(io, command.address, command.port, [&](const HttpRequest& request, HttpServer::Respond respond) {
    service->handle(request, std::move(respond));
  });
  asio::signal_set stop(io, SIGTERM, SIGINT);
  stop.async_wait([&](auto error, int signal) {
    if (error) return;
    write_log(Severity::kInfo, "asked to end",
              {{"signal", contract::signal_name(signal)}, {"graceSeconds", command.grace.count()}});
    agent->terminate();
  });
  write_log(Severity::kInfo, "agent serves",
            {{"address", command.address}, {"port", server.port()}, {"podUid", command.pod_uid}});
  io.run();
  write_log(Severity::kInfo, "agent ends",
            {{"phase", std::string(contract::name_of(agent->state().phase))}, {"exitCode", exit_code}});
  return exit_code;
}

}  // namespace trainyard::agent
