#pragma once
// Statuses that give way to pods which are being made.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>

#include "controller/decide/plan.h"
#include "controller/reconcile/executor.h"

namespace trainyard::reconcile {

bool makes_pods(const decide::Plan& plan);
/// That a gang runs or has succeeded, which nobody acts on: not that its pods are there, for which assignments wait, that it is to stop, or
/// that it begins anew. `before`: what its status was; null: not known.
bool is_word(const decide::Action& action, const contract::TrainingJobStatus* before);

/// While plans make pods, and for kStart after, words are held back, for kYield at most: who waits for its pods would wait for the API server's
/// time that they take. See docs/design/0016-what-a-write-costs.md. Lives on the brain.
class HeldWords {
 public:
  /// A status waits no longer for pods of other jobs.
  static constexpr std::chrono::milliseconds kYield{100};
  /// Those who start the pods have the server's time then.
  static constexpr std::chrono::milliseconds kStart{20};
  using Send = std::function<void()>;

  explicit HeldWords(Executor& executor) : executor_(executor) {}

  /// A plan begins to make pods; and it has ended.
  void pods_begin() { ++num_placing_; }
  void pods_are_made();
  [[nodiscard]] bool holds() const { return num_placing_ > 0; }
  void hold(Send send);
  /// Forgets words and pods alike.
  void clear();
  [[nodiscard]] std::size_t size() const { return words_.size(); }

 private:
  void advance();

  struct Word {
    Send send;
    std::chrono::milliseconds due;  // of uptime()
  };
  Executor& executor_;
  std::deque<Word> words_;
  std::size_t num_placing_ = 0;  // plans that have not ended, or did less than kStart ago
  std::int64_t term_ = 0;        // grows with clear()
};

}  // namespace trainyard::reconcile
