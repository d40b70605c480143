#pragma once
// What LayoutQuestions of memory_fit.h were answered, and whose turn it is to have one searched for: a search takes up to a tenth of a second of the one
// thread that decides, and jobs that do not fit come by the thousand, as the jobs of a sweep.

#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <string>

#include "crds/contract/time.h"

namespace trainyard::decide {

using contract::Time;

/// A question is all that the answer follows from. Of equal ones the first is searched for; of different ones one a kBetween, and the others are
/// told their turn, the same one as often as they ask before it. Who comes at his turn, right after another that was late, is next.
class LayoutAnswers {
 public:
  static constexpr std::chrono::seconds kBetween{1};
  static constexpr std::size_t kMost = 64;  // answers that are kept, the last ones
  static constexpr std::size_t kMostTurns =
      1'000;  // that are kept; those beyond them ask again when the last of these has had its own

  /// Nothing where it was not searched for, or long ago.
  const std::string* find(const std::string& question) const;
  /// When it may be searched for, at the earliest: `now`, or later.
  Time turn(const std::string& question, Time now);
  /// It was.
  void put(const std::string& question, std::string words, Time now);
  std::size_t size() const { return answers_.size(); }

 private:
  std::map<std::string, std::string> answers_;
  std::deque<std::string> in_order_;
  std::map<std::string, Time> turns_;
  Time next_{}, last_turn_{};
};

}  // namespace trainyard::decide
