#include "controller/reconcile/event_teller.h"

#include <algorithm>
#include <utility>

namespace trainyard::reconcile {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMostAllowances = 1'000;  // beyond it, those are forgotten that are full again

std::string name_of(const decide::Event& event) { return event.job.ns + "/" + event.name; }

}  // namespace

EventTeller::EventTeller(Executor& executor, kube::KubeApi& api, const Writer& writer, std::function<bool()> may_write,
                         Observer& observer, Settled settled)
    : executor_(executor),
      api_(api),
      writer_(writer),
      may_write_(std::move(may_write)),
      observer_(observer),
      settled_(std::move(settled)) {}

void EventTeller::stop() {
  ++term_;
  waiting_.clear();
  known_.clear();
  num_requests_ = 0;
}

void EventTeller::tell(const decide::Event& event) {
  if (known_.contains(name_of(event))) return;
  if (!is_allowed(event.job_uid)) return settled_(event);
  if (waiting_.size() == kMostWaiting) {
    observer_.warned("events are lost: the API server takes them too slowly", {{"waiting", waiting_.size()}});
    settle(decide::Event(waiting_.front().event));
    waiting_.pop_front();
  }
  known_.insert(name_of(event));
  waiting_.push_back({.event = event, .at = executor_.now(), .since = executor_.uptime()});
  advance();
}

void EventTeller::give_way(bool gives_way) {
  if (gives_way == gives_way_) return;
  gives_way_ = gives_way;
  advance();
}

bool EventTeller::is_allowed(const std::string& job_uid) {
  const milliseconds now = executor_.uptime();
  const auto events_left = [now](const Allowance& allowance) {
    return std::min<double>(kBurst, allowance.events + std::chrono::duration<double>(now - allowance.at) / kRefill);
  };
  if (allowances_.size() >= kMostAllowances) {
    std::erase_if(allowances_, [&events_left](const auto& item) { return events_left(item.second) >= kBurst; });
  }
  Allowance& allowance = allowances_.try_emplace(job_uid, Allowance{.at = now}).first->second;
  allowance = {.events = events_left(allowance), .at = now};
  if (allowance.events < 1) {
    observer_.warned("an event is lost: its job has too many", {{"job_uid", job_uid}});
    return false;
  }
  allowance.events -= 1;
  return true;
}

bool EventTeller::may_send() {
  if (waiting_.empty()) return false;
  if (!gives_way_) return num_requests_ < kParallel;
  const milliseconds due = waiting_.front().since + kPatience - executor_.uptime();
  if (due <= milliseconds(0)) return num_requests_ == 0;
  if (!std::exchange(looks_again_, true)) {
    executor_.brain_after(due, [this] {
      looks_again_ = false;
      advance();
    });
  }
  return false;
}

void EventTeller::advance() {
  while (may_send()) {
    Telling next = std::move(waiting_.front());
    waiting_.pop_front();
    send(std::move(next));
  }
}

void EventTeller::send(Telling telling) {
  ++num_requests_;
  ++telling.tries;
  auto request = request_for(telling.event, writer_, telling.at);
  executor_.hand([this, term = term_, started = executor_.uptime(), telling = std::move(telling), request = std::move(request)] {
    kube::Response response;
    if (may_write_()) {
      response = api_.perform(request);
    } else {
      response.message = "not sent: this controller's lease is over";
    }
    executor_.brain([this, term, started, telling, response = std::move(response)] {
      observer_.requested("create_event", response.status, executor_.uptime() - started);
      if (term == term_) answered(telling, response);
    });
  });
}

void EventTeller::answered(Telling telling, const kube::Response& response) {
  --num_requests_;
  const Result result = result_of(telling.event, response);
  if (result == Result::kTemporary && telling.tries < kTries) {
    const milliseconds wait = std::max<milliseconds>(std::chrono::seconds(1 << (telling.tries - 1)),
                                                     response.retry_after.value_or(std::chrono::seconds(0)));
    executor_.brain_after(wait, [this, term = term_, telling = std::move(telling)] {
      if (term != term_) return;
      waiting_.push_back(telling);
      advance();
    });
    return advance();
  }
  if (result != Result::kDone) {  // the namespace is going away, or the server refuses the text: it would again
    observer_.warned("event could not be made",
                     {{"event", telling.event.reason}, {"job", decide::to_text(telling.event.job)}, {"error", response.message}});
  }
  settle(telling.event);
  advance();
}

void EventTeller::settle(const decide::Event& event) {
  known_.erase(name_of(event));
  settled_(event);
}

}  // namespace trainyard::reconcile
