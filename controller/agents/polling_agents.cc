#include "controller/agents/polling_agents.h"

#include <thread>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

namespace trainyard::agents {

namespace asio = boost::asio;

struct PollingAgents::Impl {
  Impl(ObservationSink given_sink, PollingTimes given_times)
      : sink(std::move(given_sink)), times(given_times), random(std::random_device{}()), thread([this] { io.run(); }) {}

  void retarget(const std::map<std::string, std::optional<Target>>& changes) {
    for (const auto& [pod_uid, target] : changes) {
      if (!target) {
        links.erase(pod_uid);
        continue;
      }
      auto& link = links[pod_uid];
      if (!link || !link->retarget(*target)) link = std::make_unique<AgentLink>(io, *target, times, random, sink);
    }
  }

  const ObservationSink sink;
  const PollingTimes times;
  std::mt19937 random;
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  std::map<std::string, std::unique_ptr<AgentLink>> links;  // by pod UID; the thread's alone
  std::jthread thread;                                      // last: it needs all of the above
};

PollingAgents::PollingAgents(ObservationSink sink, PollingTimes times) : impl_(std::make_unique<Impl>(std::move(sink), times)) {}

PollingAgents::~PollingAgents() { stop(); }

void PollingAgents::change_targets(std::map<std::string, std::optional<Target>> by_pod_uid) {
  asio::post(impl_->io, [impl = impl_.get(), changes = std::move(by_pod_uid)] { impl->retarget(changes); });
}

void PollingAgents::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->io.stop();
  impl_->thread.join();
  impl_->links.clear();
}

}  // namespace trainyard::agents
