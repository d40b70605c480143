#pragma once
// Makes Events, apart from all plans.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "controller/decide/plan.h"
#include "controller/kube/kube_api.h"
#include "controller/reconcile/executor.h"
#include "controller/reconcile/observer.h"
#include "controller/reconcile/requests.h"

namespace trainyard::reconcile {

/// Events are news, no state: they never hold up or fail anything else, and are lost rather than heaped up. A few requests at a time,
/// each tried again a few times; at most kMostWaiting wait, and a job has at most kBurst events at once and one each kRefill after that,
/// since agents, which run users' code, can ask for any number. An event that is on its way already is not sent again. While the API server
/// has much else to do for this controller, those that have waited for kPatience are sent, one at a time. Lives on the brain.
class EventTeller {
 public:
  static constexpr std::size_t kParallel = 4;
  static constexpr int kTries = 6;
  static constexpr std::size_t kMostWaiting = 4'000;
  static constexpr int kBurst = 40;
  static constexpr std::chrono::seconds kRefill{10};
  static constexpr std::chrono::seconds kPatience{10};
  /// The event was made, or never will be: it is not to be told any more.
  using Settled = std::function<void(const decide::Event&)>;

  /// As Performer's.
  EventTeller(Executor& executor, kube::KubeApi& api, const Writer& writer, std::function<bool()> may_write, Observer& observer,
              Settled settled);

  void tell(const decide::Event& event);
  /// Whether other requests are many now.
  void give_way(bool gives_way);
  /// Drops what waits, and begins no more requests.
  void stop();

 private:
  struct Telling {
    decide::Event event;
    contract::Time at{};                // what the event says
    std::chrono::milliseconds since{};  // of uptime()
    int tries = 0;
  };
  struct Allowance {
    double events = kBurst;
    std::chrono::milliseconds at{0};  // of uptime()
  };
  /// Takes one event of the job's allowance. False where there is none left.
  bool is_allowed(const std::string& job_uid);
  bool may_send();
  void advance();
  void send(Telling telling);
  void answered(Telling telling, const kube::Response& response);
  void settle(const decide::Event& event);

  Executor& executor_;
  kube::KubeApi& api_;
  const Writer& writer_;
  const std::function<bool()> may_write_;
  Observer& observer_;
  const Settled settled_;
  std::int64_t term_ = 0;  // grows with stop()
  std::deque<Telling> waiting_;
  std::set<std::string> known_;                  // by name: those that wait, for the first or another try, or are under way
  std::map<std::string, Allowance> allowances_;  // by job UID
  std::size_t num_requests_ = 0;
  bool gives_way_ = false;
  bool looks_again_ = false;  // a timer is set
};

}  // namespace trainyard::reconcile
