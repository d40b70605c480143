#pragma once
// A real agent with its HTTP on loopback, on a thread of its own; its ranks are fake-rank processes.

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "tests/paths.h"
#include "tests/support/inbox.h"
#include "worker/agent/agent.h"
#include "worker/agent/agent_service.h"
#include "worker/agent/http_server.h"

namespace trainyard::testing {

inline const std::string kJobKey(64, 'a');

/// An assignment of `ranks` whose fake ranks follow `script` (tests/support/fake_rank_main.cc).
inline contract::Assignment scripted(std::int64_t generation, const std::string& script, std::vector<std::int32_t> ranks = {0}) {
  contract::Assignment assignment;
  assignment.jobUid = "job-uid";
  assignment.job = "default/scripted";
  assignment.generation = generation;
  assignment.ranks = std::move(ranks);
  assignment.worldSize = 8;
  assignment.rendezvous = {.host = "127.0.0.1", .port = 29500};
  assignment.spec.data.train.emplace_back().path = script;
  assignment.spec.checkpoint = contract::Checkpoint{.path = "/checkpoints"};
  return assignment;
}

class AgentInThread {
 public:
  explicit AgentInThread(const std::string& pod_uid = "pod-uid", agent::Limits limits = {},
                         const std::string& termination_log = "") {
    agent::AgentOptions options;
    options.worker = {.pod_uid = pod_uid, .bind_address = "127.0.0.1", .node = "n1", .cpus = 1};
    options.limits = limits;
    options.rank_program = std::string(test::kBinDir) + "/fake-rank";
    options.termination_log = termination_log;
    std::promise<std::uint16_t> listening;
    thread_ = std::jthread([this, options, &listening] { run(options, listening); });
    port_ = listening.get_future().get();
  }
  ~AgentInThread() { io_.stop(); }

  std::uint16_t port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  agent::Answer assign(const contract::Assignment& assignment) {
    return call<agent::Answer>([this, assignment] { return agent_->assign(assignment); });
  }
  void terminate() {
    boost::asio::post(io_, [this] { agent_->terminate(); });
  }
  contract::State state() const {
    const std::lock_guard lock(mutex_);
    return state_;
  }
  /// The first state for which `good` holds; the newest one where none came in time.
  contract::State wait(const std::function<bool(const contract::State&)>& good) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return good(state_); });
    return state_;
  }
  contract::State wait(contract::AgentPhase phase, std::int64_t generation = 1) const {
    return wait([=](const contract::State& state) { return state.phase == phase && state.generation == generation; });
  }
  /// What ranks wrote, as "3: text"; waits until there is a line that starts with `start`, and returns its rest.
  std::string wait_for_line(const std::string& start) const {
    std::unique_lock lock(mutex_);
    std::string rest;
    changed_.wait_for(lock, kPatience, [&] {
      for (const auto& line : lines_) {
        if (!line.starts_with(start)) continue;
        rest = line.substr(start.size());
        return true;
      }
      return false;
    });
    return rest;
  }
  /// The exit code, once the agent wants to end.
  std::optional<int> wait_for_end() const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return exit_code_.has_value(); });
    return exit_code_;
  }

 private:
  void run(const agent::AgentOptions& options, std::promise<std::uint16_t>& listening) {
    // All of it on this thread: the kernel kills ranks when the thread that started them ends.
    std::unique_ptr<agent::AgentService> service;
    const auto note = [this](const std::function<void()>& change) {
      {
        const std::lock_guard lock(mutex_);
        change();
      }
      changed_.notify_all();
    };
    agent_ = std::make_unique<agent::Agent>(
        io_, options,
        agent::Agent::Callbacks{.log_line =
                                    [=, this](std::int32_t rank, std::string_view line) {
                                      note([&] { lines_.push_back(std::to_string(rank) + ": " + std::string(line)); });
                                    },
                                .published =
                                    [=, this, &service] {
                                      note([&] { state_ = agent_->state(); });
                                      service->published();
                                    },
                                .ended = [=, this](int code) { note([&] { exit_code_ = code; }); }});
    service = std::make_unique<agent::AgentService>(io_, *agent_, kJobKey);
    auto server = std::make_unique<agent::HttpServer>(
        io_, "127.0.0.1", 0, [&service](const auto& request, auto respond) { service->handle(request, std::move(respond)); });
    listening.set_value(server->port());
    io_.run();
    server.reset();
    service.reset();
    agent_.reset();
  }

  template <class T>
  T call(std::function<T()> work) {
    std::promise<T> result;
    boost::asio::post(io_, [&] { result.set_value(work()); });
    return result.get_future().get();
  }

  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.get_executor()};
  std::unique_ptr<agent::Agent> agent_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  contract::State state_;
  std::vector<std::string> lines_;
  std::optional<int> exit_code_;
  std::uint16_t port_ = 0;
  std::jthread thread_;
};

}  // namespace trainyard::testing
