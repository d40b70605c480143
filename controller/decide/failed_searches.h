#pragma once
// What found no room in one look at the line. What is free only shrinks in the course of it, so others that ask for as much are not
// searched for again: of 10,000 jobs that wait most are like another.

#include <cstdint>
#include <vector>

#include "controller/decide/placement.h"

namespace trainyard::decide {

class FailedSearches {
 public:
  /// `limits`: one bit for each reservation that the gang had to leave alone.
  void add(const Gang& gang, std::uint32_t limits, NoRoom found) {
    if (!is_general(gang) || failed_.size() >= kMost) return;
    failed_.push_back({gang.count, limits, gang.requests, gang.rules, gang.pack, std::move(found)});
  }
  /// Nothing where it has to be searched for. More pods, or more that has to be left alone, are no easier to place.
  const NoRoom* find(const Gang& gang, std::uint32_t limits) const {
    if (!is_general(gang)) return nullptr;
    for (const auto& failed : failed_) {
      if (gang.count >= failed.count && (limits & failed.limits) == failed.limits && gang.requests == failed.requests &&
          gang.rules == failed.rules && gang.pack == failed.pack) {
        return &failed.found;
      }
    }
    return nullptr;
  }

 private:
  struct Failed {
    std::int32_t count;
    std::uint32_t limits;
    Resources requests;
    NodeRules rules;
    std::optional<contract::Pack> pack;
    NoRoom found;
  };
  static constexpr std::size_t kMost = 64;  // each is compared with; a line of more kinds is searched for
  /// Where the gang's other workers are says no more than which is the best of several places, but with pack Required.
  static bool is_general(const Gang& gang) {
    const bool is_tied = gang.pack && gang.pack->mode == contract::PackMode::kRequired && !gang.beside.empty();
    return gang.avoid.empty() && !is_tied;
  }

  std::vector<Failed> failed_;
};

}  // namespace trainyard::decide
