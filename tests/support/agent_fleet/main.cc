// agent_fleet: answers as the agents of all simulated worker pods of a cluster. See fleet.h.

#include <csignal>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>

#include <CLI/CLI.hpp>

#include "controller/kube/hands.h"
#include "controller/kube/kubeconfig.h"
#include "controller/kube/rest_kube_api.h"
#include "controller/kube/watcher.h"
#include "crds/contract/names.h"
#include "crds/contract/time.h"
#include "tests/support/agent_fleet/fleet.h"

namespace {

using namespace trainyard;
using kube::Json;

constexpr std::size_t kNumHands = 16;

struct Options {
  std::string kubeconfig, controller_key_file, address = "0.0.0.0";
  std::uint16_t port = contract::kAgentPort;
  fleet::FleetOptions fleet;
};

std::string read_key(const std::string& path) {
  std::ifstream file(path);
  std::string key;
  file >> key;
  if (key.empty()) throw std::runtime_error("read the controller key from " + path + ": there is nothing in it");
  return key;
}

void add_milliseconds(CLI::App& app, const std::string& name, std::chrono::milliseconds& value, const std::string& what) {
  app.add_option_function<std::int64_t>(
         name, [&value](std::int64_t number) { value = std::chrono::milliseconds(number); }, what)
      ->check(CLI::NonNegativeNumber);
}

void add_options(CLI::App& app, Options& options) {
  auto& pace = options.fleet.pace;
  pace.start_low = std::chrono::milliseconds(1);  // simulated ranks have nothing to load, unless told otherwise
  pace.start_high = std::chrono::milliseconds(20);
  pace.end_high = pace.reap_high = pace.exit_high = std::chrono::milliseconds(5);
  app.add_option("--kubeconfig", options.kubeconfig)->required()->check(CLI::ExistingFile);
  app.add_option("--controller-key-file", options.controller_key_file, "The controller's")->required()->check(CLI::ExistingFile);
  app.add_option("--address", options.address, "Listen there for all pods")->capture_default_str();
  app.add_option("--port", options.port)->capture_default_str();
  add_milliseconds(app, "--step-ms", pace.step, "A training step takes so long; 500 unless said");
  add_milliseconds(app, "--start-ms", pace.start_high, "A rank needs up to so long until it meets the others; 20 unless said");
  add_milliseconds(app, "--linger-ms", options.fleet.limits.linger,
                   "After a training that is done an agent waits so long to be released; 60000 unless said");
  app.add_flag(
      "--steps-from-start", pace.from_start,
      "Steps are counted from the start of the last container: the training ends when it would have without any waiting");
}

/// What a kubelet writes when a container has ended.
kube::Request end_of(const fleet::ContainerEnd& end) {
  const std::string ns = end.pod.at("metadata").at("namespace"), name = end.pod.at("metadata").at("name");
  Json statuses = end.pod.value("/status/containerStatuses"_json_pointer, Json::array());
  for (auto& status : statuses) {
    const Json started = status.value("/state/running/startedAt"_json_pointer, Json());
    status["ready"] = status["started"] = false;
    status["state"] = {{"terminated",
                        {{"exitCode", end.exit_code},
                         {"reason", end.exit_code == 0 ? "Completed" : "Error"},
                         {"message", end.message},
                         {"startedAt", started},
                         {"finishedAt", contract::to_rfc3339(
                                            std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now()))}}}};
  }
  // The UID keeps this off a pod of the same name that came later.
  return {.method = kube::Method::kPatch,
          .path = "/api/v1/namespaces/" + ns + "/pods/" + name + "/status",
          .query = {},
          .body = {{"metadata", {{"uid", end.pod.at("metadata").at("uid")}}},
                   {"status", {{"phase", end.exit_code == 0 ? "Succeeded" : "Failed"}, {"containerStatuses", statuses}}}},
          .content_type = "application/merge-patch+json"};
}

void raise_file_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void run(Options options) {
  raise_file_limit();
  std::signal(SIGPIPE, SIG_IGN);
  options.fleet.controller_key = read_key(options.controller_key_file);
  const auto credentials = kube::read_kubeconfig({.files = {options.kubeconfig}});
  kube::RestKubeApi api(credentials);
  kube::Hands hands(kNumHands);
  boost::asio::io_context io(1);
  fleet::Fleet fleet(io, options.fleet, [&](const fleet::ContainerEnd& end) {
    hands.run([&api, request = end_of(end)] {
      const auto answer = api.perform(request);
      const bool is_gone = answer.is_not_found() || answer.is_conflict();
      if (!answer.ok() && !is_gone) std::cerr << "agent_fleet: " << request.path << ": " << answer.message << std::endl;
    });
  });
  agent::HttpServer pods(
      io, options.address, options.port,
      [&fleet](const auto& request, auto respond) { fleet.agent_request(request, std::move(respond)); }, 1'000'000);
  agent::HttpServer control(io, "127.0.0.1", 0,
                            [&fleet](const auto& request, const auto& respond) { fleet.control_request(request, respond); });
  kube::Watcher watcher(credentials, {{.path = "/api/v1/pods", .label_selector = std::string(contract::kJobLabel), .shrink = {}}},
                        [&](const kube::WatchBatch& batch) { boost::asio::post(io, [&fleet, batch] { fleet.heard(batch); }); });
  boost::asio::signal_set stop(io, SIGTERM, SIGINT);
  stop.async_wait([&io](auto, int) { io.stop(); });
  std::cerr << "agent_fleet: control at port " << control.port() << std::endl;
  io.run();
  watcher.stop();
  api.stop();
  hands.stop();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Answers as the agents of all simulated worker pods.", "agent_fleet");
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    run(std::move(options));
  } catch (const std::exception& error) {
    std::cerr << "agent_fleet: " << error.what() << std::endl;
    return 1;
  }
}
