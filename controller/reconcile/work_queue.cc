#include "controller/reconcile/work_queue.h"

#include <algorithm>
#include <utility>

namespace trainyard::reconcile {

using std::chrono::milliseconds;

std::string to_text(const Key& key) {
  if (key.kind == Kind::kTrainingJob) return "TrainingJob " + decide::to_text(key.object);
  return key.kind == Kind::kRoom ? "room" : "queues";
}

WorkQueue::WorkQueue(Executor& executor, Run run, Pace pace) : executor_(executor), run_(std::move(run)), pace_(pace) {}

void WorkQueue::add(const Key& key) {
  Item& item = items_[key];
  if (!item.wanted) item.wanted_at = executor_.uptime();
  item.wanted = true;
  post(key, item);
}

void WorkQueue::add_after(const Key& key, milliseconds delay) {
  Item& item = items_[key];
  const Moment at = executor_.uptime() + delay;
  item.look_at = item.look_at ? std::min(*item.look_at, at) : at;
  if (!item.running) set_timer(key, item, *item.look_at);
}

std::optional<milliseconds> WorkQueue::ready_in(const Key& key) const {
  const auto found = items_.find(key);
  if (found == items_.end()) return milliseconds(0);
  if (found->second.running) return std::nullopt;
  return std::max(milliseconds(0), found->second.not_before - executor_.uptime());
}

void WorkQueue::claim(const Key& key) {
  Item& item = items_[key];
  begin(key, item);
  item.cause_at = executor_.uptime();
}

void WorkQueue::begin(const Key& key, Item& item) {
  item.running = true;
  if (key.kind == Kind::kTrainingJob) ++running_;
}

milliseconds WorkQueue::cause_at(const Key& key) const {
  const auto found = items_.find(key);
  return found == items_.end() ? executor_.uptime() : found->second.cause_at;
}

void WorkQueue::done(const Key& key, Ended ended, milliseconds at_least) {
  Item& item = items_[key];
  if (std::exchange(item.running, false) && key.kind == Kind::kTrainingJob) {
    --running_;
    advance_soon();
  }
  item.failures = ended == Ended::kWell ? 0 : item.failures + 1;
  const Moment now = executor_.uptime();
  const bool asks_for_rest = ended == Ended::kWell && at_least > milliseconds(0);
  item.paced_to = std::max(item.paced_to, now) + (asks_for_rest ? at_least : pace_.interval);
  if (ended == Ended::kWell) {
    item.not_before = item.paced_to - (pace_.at_once - 1) * pace_.interval;
  } else {
    item.not_before = now + pace_.interval;
    const Moment again = now + std::max(pace_.backoff(item.failures), at_least);
    if (ended == Ended::kFailed) item.not_before = again;
    item.look_at = item.look_at ? std::min(*item.look_at, again) : again;
  }
  // Where nothing is wanted the timer lets the item be forgotten; until then it keeps the distance between runs.
  const Moment forgettable = std::max(item.paced_to, item.not_before);
  set_timer(key, item, item.wanted ? item.not_before : std::max(item.look_at.value_or(forgettable), item.not_before));
}

void WorkQueue::advance_soon() {
  if (advance_posted_ || line_.empty()) return;
  advance_posted_ = true;
  executor_.brain([this] {  // a run may end before it returns, and begin the next, and so on
    advance_posted_ = false;
    while (running_ < kAtOnce && !line_.empty()) {
      const Key next = std::move(line_.front());
      line_.pop_front();
      items_[next].in_line = false;
      look(next);
    }
  });
}

void WorkQueue::clear() {
  items_.clear();
  line_.clear();
  running_ = 0;
}

void WorkQueue::post(const Key& key, Item& item) {
  if (item.posted || item.running) return;
  item.posted = true;
  executor_.brain([this, key] {
    items_[key].posted = false;
    look(key);
  });
}

void WorkQueue::look(const Key& key) {
  Item& item = items_[key];
  if (item.running || item.in_line) return;
  const Moment now = executor_.uptime();
  if (!item.wanted && item.look_at && *item.look_at <= now) {
    item.wanted = true;
    item.wanted_at = *item.look_at;
  }
  if (!item.wanted) {
    if (item.look_at) return set_timer(key, item, *item.look_at);
    if (item.posted || item.timer) return;
    const Moment forgettable = std::max(item.paced_to, item.not_before);
    if (now < forgettable) return set_timer(key, item, forgettable);
    items_.erase(key);
    return;
  }
  if (now < item.not_before) return set_timer(key, item, item.not_before);
  if (key.kind == Kind::kTrainingJob && running_ >= kAtOnce) {
    item.in_line = true;
    return line_.push_back(key);
  }
  item.wanted = false;
  item.look_at.reset();
  begin(key, item);
  item.cause_at = item.wanted_at;
  run_(key);
}

void WorkQueue::set_timer(const Key& key, Item& item, Moment at) {
  if (item.timer && *item.timer <= at) return;  // it will look and set the next one
  item.timer = at;
  executor_.brain_after(std::max(milliseconds(0), at - executor_.uptime()), [this, key, at] {
    Item& found = items_[key];
    if (found.timer == at) found.timer.reset();
    look(key);
  });
}

milliseconds Pace::backoff(int failures) const {
  milliseconds wait = first;
  for (int i = 1; i < failures && wait < limit; ++i) wait *= 2;
  return std::min(wait, limit);
}

}  // namespace trainyard::reconcile
