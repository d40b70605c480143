#include "controller/reconcile/held_words.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "controller/decide/conditions.h"

namespace trainyard::reconcile {

bool makes_pods(const decide::Plan& plan) {
  return std::any_of(plan.phases.begin(), plan.phases.end(), [](const auto& phase) {
    return std::any_of(phase.begin(), phase.end(),
                       [](const decide::Action& action) { return std::holds_alternative<decide::CreatePod>(action); });
  });
}

bool is_word(const decide::Action& action, const contract::TrainingJobStatus* before) {
  const auto* write = std::get_if<decide::WriteStatus>(&action);
  if (write == nullptr || before == nullptr) return false;
  const auto& status = write->status;
  const bool goes_well = status.phase == contract::Phase::kRunning || status.phase == contract::Phase::kSucceeded;
  return goes_well && status.generation == before->generation && !decide::is_stopping(status) && !decide::is_stopping(*before);
}

void HeldWords::hold(Send send) {
  words_.push_back({std::move(send), executor_.uptime() + kYield});
  executor_.brain_after(kYield, [this, term = term_] {
    if (term == term_) advance();
  });
}

void HeldWords::pods_are_made() {
  executor_.brain_after(kStart, [this, term = term_] {
    if (term != term_) return;
    --num_placing_;
    advance();
  });
}

void HeldWords::clear() {
  ++term_;
  words_.clear();
  num_placing_ = 0;
}

void HeldWords::advance() {
  while (!words_.empty() && (!holds() || words_.front().due <= executor_.uptime())) {
    const Send send = std::move(words_.front().send);
    words_.pop_front();
    send();
  }
}

}  // namespace trainyard::reconcile
