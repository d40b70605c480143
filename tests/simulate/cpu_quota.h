#pragma once
// Quota of cpu in a tree of queues, reckoned anew for each question, which is slow and plain: what decide::QuotaTree keeps up to date is
// held against it.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace trainyard::simulate {

class CpuQuota {
 public:
  struct Queue {
    std::string name;
    std::string parent;  // empty: the root
    std::int64_t nominal = 0;
    std::optional<std::int64_t> lends, borrows;  // at most; nothing: any amount
  };
  using Held = std::map<std::string, std::int64_t>;  // by queue: what its jobs hold

  CpuQuota() = default;
  /// Parents before those below them.
  explicit CpuQuota(std::vector<Queue> queues) : queues_(std::move(queues)) {}
  /// a and b below `all`.
  static CpuQuota of_two(std::int64_t a, std::int64_t b, std::optional<std::int64_t> a_lends = {},
                         std::optional<std::int64_t> b_borrows = {});

  bool is_empty() const { return queues_.empty(); }
  const std::vector<Queue>& queues() const { return queues_; }
  /// Whether it is within all limits.
  bool may_hold(const Held& held) const;
  /// Of the queue that `queue` is, or is below, and that is next below the one which it has in common with `other`: whether it would use no
  /// more than it and those below it bring, with so much more for `queue`; and whether it uses more.
  bool stays_within(const std::string& queue, std::int64_t more, Held held, const std::string& other) const;
  bool borrows(const std::string& queue, const Held& held, const std::string& other) const;

 private:
  const Queue& queue(const std::string& name) const;
  /// From the queue up to the root.
  std::vector<std::string> line(const std::string& name) const;
  std::string side(const std::string& name, const std::string& other) const;
  std::int64_t brought(const Queue& queue) const;
  std::int64_t kept(const Queue& queue) const;
  std::int64_t used(const Queue& queue, const Held& held) const;

  std::vector<Queue> queues_;
};

}  // namespace trainyard::simulate
