#pragma once
// What found no room in one look at the line. What is free only shrinks in the course of it, so others that ask for as much are not
// searched for again: of 10,000 jobs that wait most are like another.

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "controller/decide/placement.h"

namespace trainyard::decide {

class FailedSearches {
 public:
  /// `limits`: one bit for each reservation that the gang had to leave alone. `most`: so many of its pods would have found a place.
  void add(const Gang& gang, std::uint64_t limits, std::int64_t most, NoRoom found) {
    if (!is_general(gang) || failed_.size() >= kMost) return;
    failed_.push_back({most, limits, gang.requests, gang.rules, gang.pack, std::move(found)});
  }
  /// Nothing where it has to be searched for. More pods, or more that has to be left alone, are no easier to place; nor are larger ones where
  /// there is no place for one.
  const NoRoom* find(const Gang& gang, std::uint64_t limits) const {
    const DeviceNeed* device = gang.rules.device ? &*gang.rules.device : nullptr;
    return is_general(gang)
               ? find(std::int64_t{gang.count} + gang.room_beside, gang.requests, gang.rules, device, gang.pack, limits)
               : nullptr;
  }
  /// Of a gang that none of its workers, and no node to be avoided, sets apart from others. `device`: in the place of that of the rules.
  const NoRoom* find(std::int64_t count, const Resources& requests, const NodeRules& rules, const DeviceNeed* device,
                     const std::optional<contract::Pack>& pack, std::uint64_t limits) const {
    for (const auto& failed : failed_) {
      if (count > failed.most && (limits & failed.limits) == failed.limits && is_as_large(requests, failed) &&
          pack == failed.pack && needs_as_much(device, failed) && are_same(rules, failed.rules)) {
        return &failed.found;
      }
    }
    return nullptr;
  }

 private:
  struct Failed {
    std::int64_t most;
    std::uint64_t limits;
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
  /// But for what they need of GPUs.
  static bool are_same(const NodeRules& rules, const NodeRules& failed) {
    const auto others = [](const NodeRules& of) {
      return std::tie(of.selector, of.required_terms, of.tolerations, of.volume_terms);
    };
    return others(rules) == others(failed);
  }
  /// Larger GPUs are no easier to find, either.
  static bool needs_as_much(const DeviceNeed* device, const Failed& failed) {
    const auto& less = failed.rules.device;
    if (device == nullptr || !less) return device == nullptr && !less;
    return device->resource == less->resource && (failed.most > 0 ? device->bytes == less->bytes : device->bytes >= less->bytes);
  }
  /// So that what was found is true of it word by word.
  static bool is_as_large(const Resources& requests, const Failed& failed) {
    if (failed.most > 0) return requests == failed.requests;
    const auto& less = failed.requests.entries();
    return std::all_of(less.begin(), less.end(), [&](const auto& entry) { return requests[entry.first] >= entry.second; });
  }

  std::vector<Failed> failed_;
};

}  // namespace trainyard::decide
