// Thousands of stories, each by its seed. `simulate_test --seed=N` tells one again; TRAINYARD_SEEDS sets how many there are.

#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "tests/simulate/random_story.h"

namespace trainyard::simulate {
namespace {

std::optional<std::uint64_t> only_seed;
constexpr std::uint64_t kSeeds = 2'000;

TEST(Seeds, EveryStoryEndsWell) {
  const char* wanted = std::getenv("TRAINYARD_SEEDS");
  const std::uint64_t first = only_seed.value_or(1);
  const std::uint64_t last = only_seed ? first : wanted != nullptr ? std::stoull(wanted) : kSeeds;
  int failures = 0;
  for (std::uint64_t seed = first; seed <= last && failures < 5; ++seed) {
    RandomStory story(seed);
    const auto problems = story.run(only_seed.has_value());
    if (problems.empty()) continue;
    ++failures;
    std::string text;
    for (const auto& problem : problems) text += "  " + problem + "\n";
    ADD_FAILURE() << "seed " << seed << ":\n" << text << "To see it again: simulate_test --seed=" << seed;
  }
}

}  // namespace
}  // namespace trainyard::simulate

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
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
