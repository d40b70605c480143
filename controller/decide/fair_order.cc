#include "controller/decide/fair_order.h"

#include <algorithm>
#include <utility>

namespace trainyard::decide {

std::vector<double> shares(const Queues& queues, Queues::Index index) {
  std::vector<double> out{queues.dominant_share(queues.own_usage(index))};
  if (index < 0) out.push_back(out.front());
  for (; index >= 0; index = queues.parent(index)) {
    out.push_back(queues.dominant_share(queues.usage(index)) / queues.queue(index).weight);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

FairOrder::FairOrder(const Cluster& cluster, const std::vector<Candidate>& line, Queues queues)
    : line_(line), queues_(std::move(queues)), waiting_(queues_.size() + 1) {
  if (queues_.is_empty()) return;
  queue_of_.reserve(line.size());
  for (const auto& candidate : line) queue_of_.push_back(queues_.find(queue_name(cluster, *candidate.job)));
}

void FairOrder::begin_group() {
  const auto rank = [this](std::size_t i) { return std::pair(line_[i].has_others(), line_[i].priority.value); };
  const std::size_t begin = group_end_;
  while (group_end_ < line_.size() && rank(group_end_) == rank(begin)) ++group_end_;
  for (std::size_t i = group_end_; i-- > begin;) {
    waiting_[queue_of_.empty() ? 0 : static_cast<std::size_t>(queue_of_[i]) + 1].push_back(i);
  }
  take_turns();
}

void FairOrder::count(Queues::Index queue, const Resources& amounts) {
  if (queues_.is_empty()) return;
  queues_.count(queue, amounts);
  take_turns();
}

void FairOrder::take_turns() {
  turns_.clear();
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    const auto queue = static_cast<Queues::Index>(i) - 1;
    if (!waiting_[i].empty()) turns_.insert({shares(queues_, queue), waiting_[i].back(), queue});
  }
}

const Candidate* FairOrder::next() {
  if (turns_.empty()) begin_group();
  if (turns_.empty()) return nullptr;
  Turn turn = std::move(turns_.extract(turns_.begin()).value());
  auto& waiting = waiting_[static_cast<std::size_t>(turn.queue) + 1];
  const Candidate* out = &line_[waiting.back()];
  waiting.pop_back();
  if (!waiting.empty()) {
    turn.first = waiting.back();
    turns_.insert(std::move(turn));
  }
  return out;
}

}  // namespace trainyard::decide
