// Thousands of stories, each by its seed. `simulate_test --seed=N` tells one again; TRAINYARD_SEEDS sets how many there are.

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "tests/simulate/random_story.h"

namespace trainyard::simulate {
namespace {

std::optional<std::uint64_t> only_seed;
std::string program;
constexpr std::uint64_t kSeeds = 10'000;
constexpr std::size_t kMostFailures = 5;

double cpu_seconds() {
  timespec spent{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) + 1e-9 * static_cast<double>(spent.tv_nsec);
}

/// Stories share nothing, so that each core tells its own.
class Tellers {
 public:
  Tellers(std::uint64_t first, std::uint64_t last) : next_(first), last_(last) {}

  void tell_all() {
    std::vector<std::jthread> threads;
    for (unsigned i = std::max(1u, std::thread::hardware_concurrency()); i > 0; --i)
      threads.emplace_back([this] { tell_some(); });
  }
  const std::map<std::uint64_t, std::string>& failures() const { return failures_; }
  std::string took() const {
    return std::to_string(num_told_) + " stories, " +
           std::to_string(1e3 * seconds_ / static_cast<double>(std::max(1, num_told_))) + " ms of CPU each; the longest took " +
           std::to_string(1e3 * longest_.first) + " ms, seed " + std::to_string(longest_.second) + "; of the victims in them, " +
           std::to_string(num_victims_judged_) + " were judged";
  }

 private:
  void tell_some() {
    for (std::uint64_t seed = next_++; seed <= last_; seed = next_++) {
      const double begun = cpu_seconds();
      std::string text;
      int victims = 0;
      {
        RandomStory story(seed);
        for (const auto& problem : story.run(only_seed.has_value())) text += "  " + problem + "\n";
        victims = story.num_victims_judged();
      }
      const double took = cpu_seconds() - begun;
      const std::lock_guard lock(mutex_);
      ++num_told_;
      num_victims_judged_ += victims;
      seconds_ += took;
      longest_ = std::max(longest_, std::pair(took, seed));
      if (!text.empty()) failures_[seed] = text;
      if (failures_.size() >= kMostFailures) return;
    }
  }

  std::atomic<std::uint64_t> next_;
  const std::uint64_t last_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::string> failures_;  // by seed
  double seconds_ = 0;
  std::pair<double, std::uint64_t> longest_;  // seconds, seed
  int num_told_ = 0, num_victims_judged_ = 0;
};

TEST(Seeds, EveryStoryEndsWell) {
  const char* wanted = std::getenv("TRAINYARD_SEEDS");
  const std::uint64_t first = only_seed.value_or(1);
  const std::uint64_t last = only_seed ? first : wanted != nullptr ? std::stoull(wanted) : kSeeds;
  Tellers tellers(first, last);
  tellers.tell_all();
  for (const auto& [seed, problems] : tellers.failures()) {
    ADD_FAILURE() << "seed " << seed << ":\n" << problems << "To see it again: " << program << " --seed=" << seed;
  }
  std::cout << tellers.took() << "\n";
}

}  // namespace
}  // namespace trainyard::simulate

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  trainyard::simulate::program = argv[0];
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--seed=", 0) != 0) {
      std::cerr << "unknown argument " << argument << "; there is --seed=N\n";
      return 2;
    }
    trainyard::simulate::only_seed = std::stoull(argument.substr(7));
    testing::GTEST_FLAG(filter) = "Seeds.*";
  }
  return RUN_ALL_TESTS();
}
