#include "controller/decide/layout_answers.h"

#include <algorithm>
#include <utility>

namespace trainyard::decide {
namespace {

constexpr std::chrono::seconds kKept{60};  // after its turn: who has not come by then is gone, or has found another answer

}  // namespace

const std::string* LayoutAnswers::find(const std::string& question) const {
  const auto found = answers_.find(question);
  return found == answers_.end() ? nullptr : &found->second;
}

Time LayoutAnswers::turn(const std::string& question, Time now) {
  if (now >= next_ || next_ > now + kBetween) return now;  // or the clock was set back
  if (const auto known = turns_.find(question); known != turns_.end()) {
    known->second = std::max(known->second, next_);  // its turn has come, and the one before it was late
    return known->second;
  }
  std::erase_if(turns_, [now](const auto& item) { return item.second + kKept <= now; });
  if (turns_.empty()) last_turn_ = now;
  last_turn_ = std::max(last_turn_, now);
  if (turns_.size() >= kMostTurns) return last_turn_ + kBetween;
  last_turn_ += kBetween;
  turns_[question] = last_turn_;
  return last_turn_;
}

void LayoutAnswers::put(const std::string& question, std::string words, Time now) {
  next_ = now + kBetween;
  turns_.erase(question);
  if (!answers_.insert_or_assign(question, std::move(words)).second) return;
  in_order_.push_back(question);
  if (in_order_.size() <= kMost) return;
  answers_.erase(in_order_.front());
  in_order_.pop_front();
}

}  // namespace trainyard::decide
