#include "controller/kube/lease_elector.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace trainyard::kube {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kReleaseTimeout{2'000};
constexpr const char* kTooLate = "renewals came too late; the API server is slow, or this process did not run";

/// Rounded up: who waits so long does not come a moment early, with no time left for another try.
milliseconds time_left(std::chrono::steady_clock::time_point end) {
  return std::max(milliseconds(1), std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now()));
}

contract::Time wall_clock() { return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now()); }

LeaseOptions checked(LeaseOptions options) {
  std::string problems;
  if (options.name_space.empty()) problems += "; the namespace is empty";
  if (options.name.empty()) problems += "; the name is empty";
  if (options.identity.empty()) problems += "; the identity is empty";
  if (options.retry_period >= options.renew_deadline) problems += "; the retry period is not below the renew deadline";
  if (options.renew_deadline >= options.duration) problems += "; the renew deadline is not below the lease's duration";
  if (!problems.empty()) throw std::invalid_argument("set up leader election" + problems);
  return options;
}

}  // namespace

LeaseElector::LeaseElector(KubeApi& api, LeaseOptions options, LeaseCallbacks callbacks)
    : api_(api),
      options_(checked(std::move(options))),
      callbacks_(std::move(callbacks)),
      collection_("/apis/coordination.k8s.io/v1/namespaces/" + options_.name_space + "/leases"),
      random_(std::random_device{}()),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

LeaseElector::~LeaseElector() { stop(); }

void LeaseElector::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void LeaseElector::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const auto now = Clock::now();
    if (leading_ && now >= lost_at()) {
      stop_leading("the lease could not be renewed for " + std::to_string(options_.renew_deadline.count()) +
                   " ms: " + (last_problem_.empty() ? kTooLate : last_problem_));
      continue;
    }
    // A leader has to know in time that it lost; and half the deadline leaves room for a second try.
    const auto end = now + options_.renew_deadline / 2;
    const bool holds = try_to_hold(leading_ ? std::min(end, lost_at()) : end);
    if (holds && !leading_) start_leading();
    if (leading_ && !seen_.record.holder.empty() && seen_.record.holder != options_.identity) {
      stop_leading("`" + seen_.record.holder + "` holds the lease");
    }
    pause(stop, until_next_try());
  }
  if (leading_) release();
}

LeaseElector::Clock::time_point LeaseElector::lost_at() const { return held_since_ + options_.renew_deadline; }

milliseconds LeaseElector::until_next_try() {
  if (leading_) return std::min(options_.retry_period, time_left(lost_at()));
  // Candidates that started together spread out.
  const auto whole = options_.retry_period.count();
  return milliseconds(std::uniform_int_distribution<milliseconds::rep>(whole * 3 / 4, whole * 5 / 4)(random_));
}

bool LeaseElector::try_to_hold(Clock::time_point end) {
  if (!lease_ && !fetch(end)) return false;
  if (!lease_->contains("metadata") || !may_acquire(seen_, options_.identity, Clock::now())) {
    lease_.reset();  // somebody else's: look again the next time
    return false;
  }
  return write(acquired_lease(seen_.record, options_.identity, options_.duration, wall_clock()), end);
}

bool LeaseElector::fetch(Clock::time_point end) {
  Response answer = api_.perform({.path = collection_ + "/" + options_.name, .timeout = time_left(end)});
  if (answer.is_not_found()) {
    lease_ = Json{{"metadata", {{"name", options_.name}, {"namespace", options_.name_space}}}};
    seen_ = {};
    return true;
  }
  if (!answer.ok() || !answer.body.is_object()) {
    failed(answer);
    return false;
  }
  observe(std::move(answer.body));
  return true;
}

bool LeaseElector::write(const LeaseRecord& record, Clock::time_point end) {
  // The resourceVersion in the object makes the server refuse the write when somebody else wrote since.
  const bool exists = lease_->at("metadata").contains("resourceVersion");
  const auto sent_at = Clock::now();
  Response answer = api_.perform({.method = exists ? Method::kPut : Method::kPost,
                                  .path = exists ? collection_ + "/" + options_.name : collection_,
                                  .body = write_lease(*lease_, record),
                                  .timeout = time_left(end)});
  if (!answer.ok() || !answer.body.is_object()) {
    failed(answer);
    lease_.reset();  // somebody else wrote, or it is unknown whether this write happened: look
    return false;
  }
  last_problem_.clear();
  held_since_ = sent_at;
  leads_until_ = lost_at().time_since_epoch().count();
  observe(std::move(answer.body));
  return true;
}

void LeaseElector::failed(const Response& answer) {
  last_problem_ = answer.message;
  if (answer.status == 409 || in_trouble_) return;  // 409: somebody else was faster, as has to happen
  in_trouble_ = true;
  if (callbacks_.trouble) callbacks_.trouble(answer.message);
}

void LeaseElector::observe(Json lease) {
  if (in_trouble_ && callbacks_.trouble) callbacks_.trouble("");
  in_trouble_ = false;
  const LeaseRecord record = read_lease(lease);
  if (!(record == seen_.record)) seen_ = {record, Clock::now()};
  lease_ = std::move(lease);
  if (!record.holder.empty() && record.holder != reported_leader_) {
    reported_leader_ = record.holder;
    if (record.holder != options_.identity && callbacks_.new_leader) callbacks_.new_leader(record.holder);
  }
}

void LeaseElector::start_leading() {
  leading_ = true;
  if (callbacks_.started_leading) callbacks_.started_leading();
}

void LeaseElector::stop_leading(const std::string& why) {
  leading_ = false;
  lease_.reset();
  if (callbacks_.stopped_leading) callbacks_.stopped_leading(why);
}

void LeaseElector::release() {
  stop_leading("stopped");
  const auto end = Clock::now() + kReleaseTimeout;
  if (fetch(end) && seen_.record.holder == options_.identity) write(released_lease(seen_.record, wall_clock()), end);
}

void LeaseElector::pause(const std::stop_token& stop, milliseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, time, [] { return false; });
}

}  // namespace trainyard::kube
