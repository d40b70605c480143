#include "tests/support/agent_fleet/fleet.h"

#include <charconv>
#include <utility>
#include <vector>

#include "crds/contract/names.h"
#include "crds/contract/signature.h"
#include "worker/agent/agent_service.h"

namespace trainyard::fleet {
namespace {

using kube::Json;
using std::chrono::microseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kWaitForPod{1};  // for the watch to show it

std::string text_at(const Json& object, const char* pointer) { return object.value(Json::json_pointer(pointer), ""); }

contract::Time wall_clock() { return std::chrono::floor<microseconds>(std::chrono::system_clock::now()); }

int number_in(const std::string& target, const char* name, int otherwise) {
  const std::string text = agent::query_value(target, name);
  std::from_chars(text.data(), text.data() + text.size(), otherwise);
  return otherwise;
}

Json to_json(const test::Truth& truth) {
  return {{"step", truth.step},
          {"checkpoint", truth.checkpoint},
          {"generation", truth.generation},
          {"generationsRun", truth.generations_run},
          {"finished", truth.finished},
          {"violations", truth.violations}};
}

/// One pod's agent among FakeWorkers, as AgentService wants it.
class SimulatedAgent : public agent::Assignee {
 public:
  SimulatedAgent(test::FakeWorkers& workers, std::string pod_uid) : workers_(workers), pod_uid_(std::move(pod_uid)) {}
  agent::Answer assign(const contract::Assignment& assignment) override { return workers_.assign(pod_uid_, assignment); }
  agent::Answer assign_unknown(const contract::Assignment&, const std::vector<contract::Problem>& problems) override {
    return {.status = 400, .message = contract::to_text(problems), .actions = {}};
  }
  void asked() override { workers_.asked(pod_uid_); }
  const contract::State& state() const override { return workers_.core(pod_uid_).state(); }
  std::int64_t ranks_started() const override { return workers_.core(pod_uid_).ranks_started(); }
  std::int64_t ranks_failed() const override { return workers_.core(pod_uid_).ranks_failed(); }
  const agent::Measured& measured() const override { return workers_.core(pod_uid_).measured(); }

 private:
  test::FakeWorkers& workers_;
  const std::string pod_uid_;
};

}  // namespace

struct Fleet::Pod {
  Pod(boost::asio::io_context& io, test::FakeWorkers& workers, Json given, const std::string& key)
      : object(std::move(given)), agent(workers, text_at(object, "/metadata/uid")), service(io, agent, key) {}
  Json object;
  SimulatedAgent agent;
  agent::AgentService service;
};

Fleet::Fleet(boost::asio::io_context& io, FleetOptions options, std::function<void(ContainerEnd)> ended)
    : io_(io), options_(std::move(options)), ended_(std::move(ended)), time_(1, wall_clock()), workers_(time_), timer_(io) {
  workers_.pace = options_.pace;
  workers_.limits = options_.limits;
  workers_.on_change([this](const std::string& uid) {
    const auto found = pods_.find(uid);
    if (found != pods_.end() && workers_.is_running(uid)) found->second->service.published();
  });
  workers_.exited = [this](const std::string& uid, int exit_code, const std::string& message) {
    const auto found = pods_.find(uid);
    if (found == pods_.end()) return;
    ContainerEnd end{.pod = std::move(found->second->object), .exit_code = exit_code, .message = message};
    remove(uid);
    ended_(std::move(end));
  };
}

Fleet::~Fleet() = default;

microseconds Fleet::uptime() const { return std::chrono::duration_cast<microseconds>(steady_clock::now() - begun_); }

void Fleet::catch_up() { time_.run_to(uptime()); }

void Fleet::set_timer() {
  const auto next = time_.next();
  if (!next) return;
  timer_.expires_at(begun_ + *next);
  timer_.async_wait([this](auto error) {
    if (error) return;
    catch_up();
    set_timer();
  });
}

void Fleet::heard(const kube::WatchBatch& batch) {
  catch_up();
  std::map<std::string, const Json*> seen;
  for (const auto& event : batch.events) {
    const std::string uid = text_at(*event.object, "/metadata/uid");
    seen[uid] = event.object.get();
    if (event.type == kube::EventType::kDeleted) {
      workers_.kill(uid);
      remove(uid);
    } else {
      put(*event.object);
    }
  }
  if (batch.relisted) {
    std::vector<std::string> gone;
    for (const auto& [uid, pod] : pods_) {
      if (!seen.contains(uid)) gone.push_back(uid);
    }
    for (const auto& uid : gone) {
      workers_.kill(uid);
      remove(uid);
    }
  }
  set_timer();
}

void Fleet::put(const Json& pod) {
  const std::string uid = text_at(pod, "/metadata/uid"), address = text_at(pod, "/status/podIP");
  const Json owners = pod.value("/metadata/ownerReferences"_json_pointer, Json::array());
  if (text_at(pod, "/status/phase") != "Running" || address.empty() || owners.empty() || pods_.contains(uid)) return;
  const std::string key = contract::job_key(options_.controller_key, owners.at(0).value("uid", ""));
  workers_.start({.pod_uid = uid,
                  .node = text_at(pod, "/spec/nodeName"),
                  .address = address + ":" + std::to_string(contract::kAgentPort),
                  .key = key});
  pods_[uid] = std::make_unique<Pod>(io_, workers_, pod, key);
  uid_at_[address] = uid;
  answer_waiting(address);
}

void Fleet::remove(const std::string& uid) {
  const auto found = pods_.find(uid);
  if (found == pods_.end()) return;
  pods_.erase(found);
  std::erase_if(uid_at_, [&uid](const auto& item) { return item.second == uid; });  // the address may be another pod's by now
}

void Fleet::answer_waiting(const std::string& address) {
  auto waiting = waiting_.extract(address);
  if (waiting.empty()) return;
  for (auto& each : waiting.mapped()) {
    if (steady_clock::now() < each.until) agent_request(each.request, std::move(each.respond));
  }
}

void Fleet::agent_request(const agent::HttpRequest& request, agent::HttpServer::Respond respond) {
  const auto at = uid_at_.find(request.to_address);
  if (at == uid_at_.end()) {
    auto& waiting = waiting_[request.to_address];
    waiting.push_back({.request = request, .respond = std::move(respond), .until = steady_clock::now() + kWaitForPod});
    // Thrown away unanswered, it closes the connection.
    auto timer = std::make_shared<boost::asio::steady_timer>(io_, kWaitForPod);
    timer->async_wait([this, timer, address = request.to_address](auto) {
      const auto found = waiting_.find(address);
      if (found == waiting_.end()) return;
      found->second.remove_if([](const Waiting& each) { return each.until <= steady_clock::now(); });
      if (found->second.empty()) waiting_.erase(found);
    });
    return;
  }
  catch_up();
  // While it caught up the container may have ended.
  if (const auto found = pods_.find(at->second); found != pods_.end()) found->second->service.handle(request, std::move(respond));
  set_timer();
}

void Fleet::control_request(const agent::HttpRequest& request, const agent::HttpServer::Respond& respond) {
  catch_up();
  const std::string path = request.target.substr(0, request.target.find('?'));
  if (request.method == "GET" && path == "/truths") {
    Json truths = Json::object();
    for (const auto& [uid, truth] : workers_.truths()) truths[uid] = to_json(truth);
    respond({.body = truths.dump()});
  } else if (request.method == "POST" && path == "/crash") {
    const std::string uid = agent::query_value(request.target, "pod");
    const bool done = workers_.crash(uid, number_in(request.target, "exitCode", 1), number_in(request.target, "signal", 0));
    respond({.status = done ? 200U : 404U, .body = done ? "{}" : R"({"message": "no rank of that pod runs"})"});
  } else if (request.method == "POST" && path == "/pace") {
    workers_.pace.step =
        std::chrono::milliseconds(number_in(request.target, "stepMs", static_cast<int>(options_.pace.step.count())));
    respond({.body = "{}"});
  } else {
    respond(
        {.status = 404,
         .body = R"({"message": "there are GET /truths, POST /crash?pod=UID&exitCode=1&signal=0 and POST /pace?stepMs=20"})"});
  }
  set_timer();
}

}  // namespace trainyard::fleet
