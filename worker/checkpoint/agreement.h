#pragma once
// How the ranks of a group come to one view: small collectives over flags and texts.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/checkpoint/trouble.h"
#include "worker/mesh/comm.h"

namespace trainyard::checkpoint {

/// Every call is collective. `device`: where the group's backend needs its tensors.
class Agreement {
 public:
  Agreement(mesh::Comm& group, at::Device device) : group_(group), device_(device) {}

  std::int32_t size() const { return group_.size(); }
  bool is_first() const { return group_.rank() == 0; }
  /// Of each place, the highest value (or the sum) over all ranks.
  std::vector<std::int64_t> highest(const std::vector<std::int64_t>& values);
  std::vector<std::int64_t> sum(const std::vector<std::int64_t>& values);
  /// The text that rank `from` gave.
  std::string text_of(std::int32_t from, const std::string& text);
  /// The problem of the lowest rank that has one, on all ranks; nothing when none has. `mine` empty: none.
  std::optional<std::string> first_problem(const std::string& mine);
  /// The same where problems are of several kinds: the gravest kind counts, and of it the lowest rank's.
  Problem gravest(const Problem& mine);

 private:
  std::vector<std::int64_t> reduce(const std::vector<std::int64_t>& values, mesh::ReduceOp op);

  mesh::Comm& group_;
  at::Device device_;
};

}  // namespace trainyard::checkpoint
