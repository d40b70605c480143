#include "controller/agents/agent_link.h"

#include <algorithm>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "controller/agents/agent_connection.h"
#include "controller/agents/agent_reply.h"
#include "crds/contract/sparse.h"

namespace trainyard::agents {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// How long to wait after the n-th error in a row: doubled each time, and somewhere in the upper half, so that agents that went away
/// together are not asked again together.
class Backoff {
 public:
  Backoff(const PollingTimes& times, std::mt19937& random) : times_(times), random_(random) {}
  milliseconds next() {
    const milliseconds full = std::min(times_.backoff_most, times_.backoff_least * (1 << std::min(errors_, 16)));
    ++errors_;
    return milliseconds(std::uniform_int_distribution<std::int64_t>(full.count() / 2, full.count())(random_));
  }
  void reset() { errors_ = 0; }

 private:
  const PollingTimes& times_;
  std::mt19937& random_;
  int errors_ = 0;
};

std::optional<contract::State> state_of(const Outcome& outcome) {
  if (!outcome.error.empty() || outcome.status != 200) return std::nullopt;
  return state_in(outcome.body);
}

std::string error_of(const Outcome& outcome, const Target& target, const char* what) {
  if (!outcome.error.empty()) return outcome.error;
  const std::string where = std::string(what) + " at " + target.address + ": ";
  if (outcome.status != 200) return where + words_of_refusal(outcome.status, outcome.body);
  return where + "the reply is no state; are agent and controller of the same version?";
}

}  // namespace

struct AgentLink::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& io, Target given, const PollingTimes& given_times, std::mt19937& random,
       const ObservationSink& given_sink)
      : target(std::move(given)),
        times(given_times),
        sink(given_sink),
        poll_connection(io, peer()),
        put_connection(io, peer()),
        poll_timer(io),
        put_timer(io),
        poll_backoff(times, random),
        put_backoff(times, random) {}

  Peer peer() const { return {.address = target.address, .pod_uid = target.pod_uid, .key = target.key}; }

  void poll() {
    // Version 0 is none that an agent has: after an error it answers at once, and we know whether it is there.
    const std::int64_t after = heard && last_state ? last_state->version : 0;
    Exchange get{.method = "GET",
                 .target = "/v1/state?after=" + std::to_string(after) + "&waitSeconds=" + std::to_string(times.wait.count()),
                 .body = {},
                 .connect_timeout = times.connect_timeout,
                 .reply_timeout = times.wait + times.reply_slack,
                 .silence = times.silence};
    asked_at = steady_clock::now();
    poll_connection.exchange(std::move(get), [this, after](const Outcome& outcome) { polled(outcome, after); });
  }

  void polled(const Outcome& outcome, std::int64_t after) {
    const auto state = state_of(outcome);
    if (!state) {
      heard = false;
      poll_connection.close();
      poll_after(poll_backoff.next());
      return sink({.pod_uid = target.pod_uid,
                   .state = std::nullopt,
                   .error = error_of(outcome, target, "GET /v1/state"),
                   .other_key = outcome.status == 401});
    }
    // One agent must not keep the thread of all busy: neither by answering at once though nothing is new, nor by news without end.
    const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - asked_at);
    const bool too_early = state->version == after && took < milliseconds(times.wait) / 2;
    if (!too_early) poll_backoff.reset();
    heard = true;
    observe(*state);
    poll_after(std::max(too_early ? poll_backoff.next() : milliseconds(0), times.between - took));
    put_if_needed();
  }

  void observe(const contract::State& state) {
    last_state = state;
    // It forgot what it had taken: it has to be told anew.
    if (accepted && state.generation < accepted->generation) accepted.reset();
    sink({.pod_uid = target.pod_uid, .state = state, .error = refusal});
  }

  void poll_after(milliseconds delay) {
    if (delay.count() <= 0) return poll();
    poll_timer.expires_after(delay);
    poll_timer.async_wait([weak = weak_from_this()](auto error) {
      const auto self = weak.lock();
      if (!error && self) self->poll();
    });
  }

  void put_if_needed() {
    if (!heard || putting || put_waits || !target.assignment || target.assignment == accepted) return;
    putting = true;
    sent = *target.assignment;
    Exchange put{.method = "PUT",
                 .target = "/v1/assignment",
                 .body = contract::encode_sparse(sent).dump(-1, ' ', false, contract::Json::error_handler_t::replace),
                 .connect_timeout = times.connect_timeout,
                 .reply_timeout = times.reply_slack,
                 .silence = times.silence};
    put_connection.exchange(std::move(put), [this](const Outcome& outcome) { was_put(outcome); });
  }

  void was_put(const Outcome& outcome) {
    putting = false;
    put_connection.close();  // assignments are rare: a second open socket for each agent is not worth it
    if (const auto state = state_of(outcome)) {
      put_backoff.reset();
      accepted = sent;
      refusal.clear();
      observe(*state);
      return put_if_needed();  // it may have changed meanwhile
    }
    if (target.assignment != sent) return put_if_needed();  // nobody wants that any more, so its refusal tells nobody anything
    put_waits = true;
    put_timer.expires_after(put_backoff.next());
    put_timer.async_wait([weak = weak_from_this()](auto error) {
      const auto self = weak.lock();
      if (error || !self) return;
      self->put_waits = false;
      self->put_if_needed();
    });
    refusal = error_of(outcome, target, "PUT /v1/assignment");
    // What it does otherwise is still known. Whether it is there at all, the poll tells, unless it did answer.
    const bool is_there = heard || outcome.error.empty();
    sink({.pod_uid = target.pod_uid, .state = is_there ? last_state : std::nullopt, .error = refusal});
  }

  void retarget(const Target& wanted) {
    if (wanted.assignment != target.assignment) {
      refusal.clear();  // what was refused is not wanted any more
      if (put_waits) {
        put_timer.cancel();
        put_waits = false;
        put_backoff.reset();
      }
    }
    target = wanted;
    put_if_needed();
  }

  Target target;
  const PollingTimes& times;
  const ObservationSink& sink;
  AgentConnection poll_connection, put_connection;
  asio::steady_timer poll_timer, put_timer;
  Backoff poll_backoff, put_backoff;
  std::optional<contract::State> last_state;
  std::optional<contract::Assignment> accepted;  // by this agent, as far as we know
  contract::Assignment sent;
  std::string refusal;  // why the assignment that is wanted was not taken; told with each answer until it is, or is not wanted
  steady_clock::time_point asked_at;
  bool heard = false;  // the last poll was answered
  bool putting = false;
  bool put_waits = false;
};

AgentLink::AgentLink(asio::io_context& io, Target target, const PollingTimes& times, std::mt19937& random,
                     const ObservationSink& sink)
    : impl_(std::make_shared<Impl>(io, std::move(target), times, random, sink)) {
  impl_->poll();
}

AgentLink::~AgentLink() {
  impl_->poll_connection.close();
  impl_->put_connection.close();
}

bool AgentLink::retarget(const Target& target) {
  const Target& had = impl_->target;
  if (target.pod_uid != had.pod_uid || target.address != had.address || target.key != had.key) return false;
  impl_->retarget(target);
  return true;
}

}  // namespace trainyard::agents
