#pragma once
// The agents of all simulated pods in one process: the real agent's protocol and state machine (worker/agent) over ranks that only
// pretend to train (tests/support/fake_workers.h), by the real clock. It listens for a whole range of addresses and tells pods apart by
// the address that a request came to.

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "controller/kube/kube_api.h"
#include "tests/support/fake_workers.h"
#include "tests/support/virtual_time.h"
#include "worker/agent/http_server.h"

namespace trainyard::fleet {

struct FleetOptions {
  std::string controller_key;  // each job's key is derived from it, so that no Secret has to be read
  test::FakeWorkers::Pace pace;
  agent::Limits limits;
};

/// How a container ended, for its pod's status.
struct ContainerEnd {
  kube::Json pod;  // as the watch last showed it
  int exit_code = 0;
  std::string message;  // the agent's last word
};

/// Lives on the io_context's one thread.
class Fleet {
 public:
  Fleet(boost::asio::io_context& io, FleetOptions options, std::function<void(ContainerEnd)> ended);
  ~Fleet();
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  /// What the watch of worker pods brought: one that runs has an agent from then on, one that is gone has none.
  void heard(const kube::WatchBatch& batch);
  /// A request to one of the pods. One that comes before the watch has shown its pod is answered as soon as it has: a container serves
  /// before its kubelet says that it runs.
  void agent_request(const agent::HttpRequest& request, agent::HttpServer::Respond respond);
  /// GET /truths: by job UID, what was trained, and what should never have happened. POST /crash?pod=UID&exitCode=1&signal=0: one of the
  /// pod's ranks ends so. POST /pace?stepMs=20: from now on a step takes so long; without a number, as long as the options say.
  void control_request(const agent::HttpRequest& request, const agent::HttpServer::Respond& respond);

 private:
  struct Pod;
  struct Waiting {
    agent::HttpRequest request;
    agent::HttpServer::Respond respond;
    std::chrono::steady_clock::time_point until;
  };
  void put(const kube::Json& pod);
  void remove(const std::string& uid);
  void answer_waiting(const std::string& address);
  /// The ranks do what they were to do until now.
  void catch_up();
  void set_timer();
  std::chrono::microseconds uptime() const;

  boost::asio::io_context& io_;
  const FleetOptions options_;
  const std::function<void(ContainerEnd)> ended_;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  test::VirtualTime time_;
  test::FakeWorkers workers_;
  boost::asio::steady_timer timer_;
  std::map<std::string, std::unique_ptr<Pod>> pods_;   // those that run, by UID
  std::map<std::string, std::string> uid_at_;          // by address
  std::map<std::string, std::list<Waiting>> waiting_;  // by address
};

}  // namespace trainyard::fleet
