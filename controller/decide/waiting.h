#pragma once
// What a job is told that waits for its place: why, where in the line it is, and when it may start.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controller/decide/line.h"
#include "controller/decide/review.h"

namespace trainyard::decide {

/// Why a job waits on.
struct Wait {
  const char* reason = nullptr;  // of the condition Placed
  std::string message;
  std::int32_t position = 0;  // in the line
  std::optional<Time> estimated_start = std::nullopt;
  bool is_forecast = false;  // that, by forecast.h: what was told before stands until it is off by a good part of the wait
  std::optional<Time> again = std::nullopt;  // when to look at it again, though nothing may have changed
  bool is_within_quota = true;
};

/// In one look at the line.
class Waiting {
 public:
  /// `in_line`: so many jobs.
  Waiting(const Cluster& cluster, Time now, std::size_t in_line) : cluster_(cluster), now_(now), in_line_(in_line) {}

  /// Says why the gang, or what is missing of it, has no place.
  Plan wait(const Candidate& candidate, Wait why);
  /// A job that was told why there is no room is told so anew when it is its turn: to find the words takes longer than to find room. So there
  /// is a bound also on how many are told in one look. Until when it has to wait; nothing where it is its turn.
  std::optional<Time> explained_until(const Candidate& candidate, bool is_within_quota) const;

 private:
  Plan tell(const Candidate& candidate, Wait why);
  static bool is_news(const Candidate& candidate, bool is_within_quota);
  Plan wait_for_the_rest(Review& review, const std::string& why) const;
  std::optional<std::int64_t> estimate_error();

  const Cluster& cluster_;
  const Time now_;
  const std::size_t in_line_;
  std::int32_t num_told_ = 0, num_told_anew_ = 0;
  std::optional<std::vector<std::int64_t>> errors_;  // of estimates, sorted, in seconds
};

}  // namespace trainyard::decide
