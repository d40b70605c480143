#include "controller/decide/fair_order.h"

#include <iterator>
#include <utility>

namespace trainyard::decide {

FairOrder::FairOrder(const Cluster& cluster, const std::vector<Candidate>& line, const Queues& queues)
    : line_(line), queues_(queues) {
  if (queues_.is_empty()) return;
  place_of_.reserve(line.size());
  for (const auto& candidate : line) place_of_.push_back(place_of(queues_.find(queue_name(cluster, *candidate.job))));
  places_.resize(queues_.size() + 2);
  for (std::size_t i = 0; i + 1 < places_.size(); ++i) {
    const bool is_queue = i < queues_.size();
    const Queues::Index index = is_queue ? static_cast<Queues::Index>(i) : -1;
    Place& place = places_[i];
    const bool has_parent = is_queue && queues_.parent(index) >= 0;
    place.above = has_parent ? place_of(queues_.parent(index)) : places_.size() - 1;
    if (is_queue) place.weight = queues_.queue(index).weight;
    place.usage = queues_.usage(index);
    place.own_usage = queues_.own_usage(index);
    place.share = queues_.dominant_share(place.usage) / place.weight;
    place.own_share = queues_.dominant_share(place.own_usage);
  }
}

std::size_t FairOrder::place_of(Queues::Index queue) const {
  return queue < 0 ? queues_.size() : static_cast<std::size_t>(queue);
}

void FairOrder::begin_group() {
  const auto rank = [this](std::size_t i) { return std::pair(line_[i].has_others(), line_[i].priority.value); };
  const std::size_t begin = next_;
  while (next_ < line_.size() && rank(next_) == rank(begin)) ++next_;
  std::set<std::size_t> changed;
  for (std::size_t i = next_; i-- > begin;) {
    places_[place_of_[i]].waiting.push_back(i);
    changed.insert(place_of_[i]);
  }
  for (const auto place : changed) refresh(place);
}

void FairOrder::put(Turns& turns, std::optional<Turns::iterator>& turn, double share, const Turn& below) {
  const auto tell = [&](Turn& told) {
    told.shares.assign(1, share);
    told.shares.insert(told.shares.end(), below.shares.begin(), below.shares.end());
    told.first = below.first;
    told.place = below.place;
  };
  if (turn) {
    const auto next = std::next(*turn);  // most stay where they are
    auto node = turns.extract(*turn);
    tell(node.value());
    turn = turns.insert(next, std::move(node));
  } else {
    Turn told;
    tell(told);
    turn = turns.insert(std::move(told)).first;
  }
}

/// What its own jobs, or its share, say has changed: here and in all places above.
void FairOrder::refresh(std::size_t at) {
  Place& place = places_[at];
  if (!place.waiting.empty()) {
    const Turn oldest{.shares = {}, .first = place.waiting.back(), .place = at};
    put(place.turns, place.own, place.own_share, oldest);
  } else if (place.own) {
    place.turns.erase(*std::exchange(place.own, std::nullopt));
  }
  for (; at + 1 < places_.size(); at = places_[at].above) {
    Place& below = places_[at];
    Turns& turns = places_[below.above].turns;
    if (!below.turns.empty()) {
      put(turns, below.told, below.share, *below.turns.begin());
    } else if (below.told) {
      turns.erase(*std::exchange(below.told, std::nullopt));
    }
  }
}

void FairOrder::count(Queues::Index queue, const Resources& amounts) {
  if (queues_.is_empty()) return;
  const std::size_t own = place_of(queue);
  places_[own].own_usage += amounts;
  places_[own].own_share = queues_.dominant_share(places_[own].own_usage);
  for (std::size_t at = own; at + 1 < places_.size(); at = places_[at].above) {
    places_[at].usage += amounts;
    places_[at].share = queues_.dominant_share(places_[at].usage) / places_[at].weight;
  }
  refresh(own);
}

const Candidate* FairOrder::next() {
  if (place_of_.empty()) return next_ < line_.size() ? &line_[next_++] : nullptr;
  const Turns& turns = places_.back().turns;
  if (turns.empty()) begin_group();
  if (turns.empty()) return nullptr;
  const std::size_t at = turns.begin()->place;
  auto& waiting = places_[at].waiting;
  const Candidate* out = &line_[waiting.back()];
  waiting.pop_back();
  refresh(at);
  return out;
}

}  // namespace trainyard::decide
