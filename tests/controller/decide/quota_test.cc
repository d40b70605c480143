#include "controller/decide/quota.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace trainyard::decide {
namespace {

using Index = QuotaTree::Index;

/// The definitions of quota.h word for word, from what the jobs of each node use: slow, and without any state.
struct PlainQuota {
  std::vector<Index> parents;
  std::vector<QuotaLimits> limits;
  std::vector<std::int64_t> used;  // by the node's own jobs

  template <class Amount>
  std::int64_t of_children(std::size_t node, Amount amount) const {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < parents.size(); ++i) {
      if (parents[i] == static_cast<Index>(node)) sum += amount(i);
    }
    return sum;
  }
  std::int64_t subtree(std::size_t n) const {
    return limits[n].nominal + of_children(n, [this](std::size_t c) { return subtree(c) - kept(c); });
  }
  std::int64_t kept(std::size_t n) const {
    return limits[n].lending ? std::max<std::int64_t>(0, subtree(n) - *limits[n].lending) : 0;
  }
  std::int64_t usage(std::size_t n) const {
    return used[n] + of_children(n, [this](std::size_t c) { return passed(c); });
  }
  std::int64_t passed(std::size_t n) const { return std::max<std::int64_t>(0, usage(n) - kept(n)); }
  bool is_kept() const {
    for (std::size_t n = 0; n < parents.size(); ++n) {
      if (parents[n] < 0 && usage(n) > subtree(n)) return false;
      const auto& borrowing = limits[n].borrowing;
      if (parents[n] >= 0 && borrowing && passed(n) > subtree(n) - kept(n) + *borrowing) return false;
    }
    return true;
  }
  /// The most that can be added to what the node's jobs use without breaking a rule.
  std::int64_t available(std::size_t n) const {
    PlainQuota more = *this;
    std::int64_t amount = 0;
    for (;; ++amount) {
      ++more.used[n];
      if (!more.is_kept()) return amount;
    }
  }
};

TEST(QuotaOfATree, IsAvailableAsTheRulesSayInEveryWorldOfThreeQueues) {
  const std::optional<std::int64_t> limits[] = {std::nullopt, 0, 1};
  std::mt19937 random(1);
  int worlds = 0, with_room = 0;
  for (const auto& parents : std::vector<std::vector<Index>>{{-1, -1, -1}, {-1, 0, -1}, {-1, 0, 0}, {-1, 0, 1}}) {
    for (int code = 0; code < 27 * 27 * 27; code += 1 + static_cast<int>(random() % 9)) {
      PlainQuota plainly{.parents = parents, .limits = {}, .used = {0, 0, 0}};
      for (int rest = code; plainly.limits.size() < 3; rest /= 27) {
        plainly.limits.push_back({.nominal = rest % 3, .borrowing = limits[rest / 3 % 3], .lending = limits[rest / 9 % 3]});
      }
      for (std::size_t n = 0; n < 3; ++n) {
        if (parents[n] < 0) plainly.limits[n].borrowing = plainly.limits[n].lending = std::nullopt;
      }
      QuotaTree tree(parents, plainly.limits);
      for (int step = 0; step < 6; ++step) {
        for (std::size_t n = 0; n < 3; ++n) {
          const auto node = static_cast<Index>(n);
          ASSERT_EQ(std::max<std::int64_t>(0, tree.available(node)), plainly.available(n)) << code << " " << n << " " << step;
          ASSERT_EQ(tree.usage(node), plainly.usage(n));
          ASSERT_EQ(tree.subtree(node), plainly.subtree(n));
          with_room += tree.available(node) > 0;
          if (step == 0) {
            ASSERT_EQ(tree.most(node), plainly.available(n)) << code;
          }
        }
        const std::size_t n = random() % 3;
        const auto node = static_cast<Index>(n);
        if (random() % 3 == 0 && plainly.used[n] > 0) {
          --plainly.used[n];
          tree.remove(node, 1);
        } else if (const auto room = tree.available(node); room > 0) {
          const std::int64_t amount = 1 + static_cast<std::int64_t>(random() % static_cast<std::size_t>(room));
          plainly.used[n] += amount;
          tree.add(node, amount);
        }
      }
      ++worlds;
    }
  }
  EXPECT_GT(worlds, 10'000);
  EXPECT_GT(with_room, 10'000);
}

TEST(QuotaOfATree, IsNeverExceededInWhateverOrderJobsComeAndGo) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    const auto up_to = [&random](int most) { return static_cast<int>(random() % static_cast<unsigned>(most + 1)); };
    PlainQuota plainly;
    const int nodes = 2 + up_to(8);
    for (int i = 0; i < nodes; ++i) {
      plainly.parents.push_back(i == 0 ? -1 : up_to(i) - 1);
      QuotaLimits limits{.nominal = up_to(40), .borrowing = {}, .lending = {}};
      if (plainly.parents.back() >= 0 && up_to(1) == 0) limits.borrowing = up_to(30);
      if (plainly.parents.back() >= 0 && up_to(1) == 0) limits.lending = up_to(30);
      plainly.limits.push_back(limits);
      plainly.used.push_back(0);
    }
    QuotaTree tree(plainly.parents, plainly.limits);
    std::vector<std::pair<Index, std::int64_t>> jobs;
    for (int step = 0; step < 200; ++step) {
      if (up_to(2) == 0 && !jobs.empty()) {
        const auto gone = jobs.begin() + up_to(static_cast<int>(jobs.size()) - 1);
        plainly.used[static_cast<std::size_t>(gone->first)] -= gone->second;
        tree.remove(gone->first, gone->second);
        jobs.erase(gone);
      } else {
        const Index node = up_to(nodes - 1);
        const std::int64_t amount = 1 + up_to(12);
        if (tree.available(node) < amount) continue;
        plainly.used[static_cast<std::size_t>(node)] += amount;
        tree.add(node, amount);
        jobs.emplace_back(node, amount);
      }
      ASSERT_TRUE(plainly.is_kept()) << "seed " << seed << ", step " << step;
    }
    for (const auto& [node, amount] : jobs) tree.remove(node, amount);
    for (Index i = 0; i < nodes; ++i) EXPECT_EQ(tree.usage(i), 0) << seed;
  }
}

TEST(QuotaOfATree, GivesNothingWhereMoreIsUsedThanThereIs) {
  QuotaTree tree({-1, 0}, {{.nominal = 4, .borrowing = {}, .lending = {}}, {.nominal = 4, .borrowing = {}, .lending = 2}});
  tree.add(0, 9);
  EXPECT_LE(tree.available(0), 0);
  EXPECT_EQ(tree.available(1), 2) << "what it does not lend is its own all the same";
}

TEST(QuotaOfATree, HoldsAmountsBeyondEveryCluster) {
  QuotaTree tree({-1, 0}, {{.nominal = INT64_MAX, .borrowing = {}, .lending = {}},
                           {.nominal = INT64_MAX, .borrowing = INT64_MAX, .lending = {}}});
  tree.add(1, INT64_MAX);
  EXPECT_GE(tree.available(1), 0);
}

TEST(QuotaOfATree, TellsWhoBorrows) {
  QuotaTree tree({-1, 0, 0},
                 {{}, {.nominal = 8, .borrowing = {}, .lending = {}}, {.nominal = 8, .borrowing = {}, .lending = {}}});
  tree.add(1, 12);
  EXPECT_EQ(tree.borrowed(1), 4);
  EXPECT_EQ(tree.borrowed(2), 0);
  EXPECT_TRUE(tree.stays_within(2, 2, 8));
  EXPECT_FALSE(tree.stays_within(2, 2, 9));
  EXPECT_TRUE(tree.stays_within(0, 1, 4));
  EXPECT_FALSE(tree.stays_within(0, 1, 5));
}

TEST(QuotaWithoutBorrowers, IsWhatOthersLeaveWhoUseNoMoreThanTheirOwn) {
  constexpr Index kOrg = 0, kA = 1, kB = 2;
  const std::vector<Index> parents{-1, kOrg, kOrg};
  QuotaTree tree(parents, {{.nominal = 8}, {.nominal = 0}, {.nominal = 16}});
  tree.add(kB, 24);
  EXPECT_EQ(tree.available(kA), 0);
  EXPECT_EQ(tree.available_without_borrowers(kA), 8) << "b goes on with its 16 of the 24";
  tree.remove(kB, 16);
  EXPECT_EQ(tree.available_without_borrowers(kA), 16);
  tree.add(kOrg, 4);
  EXPECT_EQ(tree.available_without_borrowers(kA), 12) << "the 4 are within what the parent's own jobs may use";
  tree.add(kA, 5);
  EXPECT_EQ(tree.available_without_borrowers(kA), 12) << "its own jobs will be gone";
  QuotaTree lends_little(parents, {{.nominal = 8}, {.nominal = 0}, {.nominal = 16, .lending = 4}});
  lends_little.add(kB, 20);
  EXPECT_EQ(lends_little.available_without_borrowers(kA), 8) << "of the 12 there are for others, b uses the 4 that it lends";
}

}  // namespace
}  // namespace trainyard::decide
