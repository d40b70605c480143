#include "tests/support/fake_agents.h"

#include <utility>

namespace trainyard::test {
namespace {

constexpr milliseconds kSoonLow{1}, kSoonHigh{20};
constexpr milliseconds kRetryLow{1'000}, kRetryHigh{3'000};  // of those that do not answer

}  // namespace

FakeAgents::FakeAgents(VirtualTime& time, FakeWorkers& workers, agents::ObservationSink sink)
    : time_(time), workers_(workers), sink_(std::move(sink)) {
  workers_.on_change([this, alive = std::weak_ptr<bool>(alive_)](const std::string& pod_uid) {
    if (!alive.expired() && links_.contains(pod_uid)) contact_soon(pod_uid, kSoonLow, kSoonHigh);
  });
}

void FakeAgents::change_targets(std::map<std::string, std::optional<agents::Target>> by_pod_uid) {
  for (auto& [uid, target] : by_pod_uid) {
    if (!target) {
      links_.erase(uid);
      continue;
    }
    Link& link = links_[uid];
    if (link.target == *target) continue;
    link.target = std::move(*target);
    contact_soon(uid, kSoonLow, kSoonHigh);
  }
}

void FakeAgents::contact_soon(const std::string& pod_uid, milliseconds low, milliseconds high) {
  if (std::exchange(links_.at(pod_uid).posted, true)) return;
  time_.after(time_.random_time(low, high), [this, pod_uid, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && links_.contains(pod_uid)) contact(pod_uid);
  });
}

void FakeAgents::contact(const std::string& pod_uid) {
  Link& link = links_.at(pod_uid);
  link.posted = false;
  std::string why;
  auto state = workers_.state(pod_uid, link.target.address, link.target.key, why);
  if (!state) {
    link.seen.reset();
    sink_({.pod_uid = pod_uid, .state = std::nullopt, .error = why, .other_key = why == FakeWorkers::kKeysDiffer});
    return contact_soon(pod_uid, kRetryLow, kRetryHigh);
  }
  std::string refused;
  if (link.target.assignment && link.target.assignment != link.accepted) {
    const unsigned status = workers_.assign(pod_uid, *link.target.assignment).status;
    if (status == 200) {
      link.accepted = link.target.assignment;
    } else {
      refused = "PUT /v1/assignment: " + std::to_string(status);
      contact_soon(pod_uid, kRetryLow, kRetryHigh);
    }
    state = workers_.state(pod_uid, link.target.address, link.target.key, why);
    if (!state) return contact_soon(pod_uid, kSoonLow, kSoonHigh);
  }
  if (link.seen == state->version && link.refused == refused) return;
  link.seen = state->version;
  link.refused = refused;
  sink_({.pod_uid = pod_uid, .state = std::move(state), .error = refused});
}

}  // namespace trainyard::test
