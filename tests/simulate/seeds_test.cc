// Thousands of stories, each by its seed. `simulate_test --seed=N` tells one again; TRAINYARD_SEEDS sets how many there are.

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/simulate/random_story.h"
#include "tests/simulate/seeds.h"

namespace trainyard::simulate {
namespace {

std::optional<std::uint64_t> only_seed;
std::string program;
constexpr std::size_t kMostFailures = 5;

double cpu_seconds() {
  timespec spent{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) + 1e-9 * static_cast<double>(spent.tv_nsec);
}

/// Tells every `step`-th story; `now` is the one under way.
Json tell(std::uint64_t first, std::uint64_t last, std::uint64_t step, std::atomic<std::uint64_t>& now) {
  int num_told = 0, num_victims_judged = 0;
  double total = 0, longest = 0;
  std::uint64_t longest_seed = 0;
  Json failures = Json::object();
  for (std::uint64_t seed = first; seed <= last && failures.size() < kMostFailures; seed += step) {
    now = seed;
    const double begun = cpu_seconds();
    std::string text;
    {
      RandomStory story(seed);
      for (const auto& problem : story.run(only_seed.has_value())) text += "  " + problem + "\n";
      num_victims_judged += story.num_victims_judged();
    }
    const double took = cpu_seconds() - begun;
    ++num_told;
    total += took;
    if (took > longest) longest = took, longest_seed = seed;
    if (!text.empty()) failures[std::to_string(seed)] = text;
  }
  return {{"told", num_told},   {"victims", num_victims_judged}, {"seconds", total},
          {"longest", longest}, {"seed", longest_seed},          {"failures", failures}};
}

/// A process that tells some of them. Stories share nothing, so that each core tells its own; not by threads, with which memory costs more.
class Teller {
 public:
  Teller(std::uint64_t first, std::uint64_t last, std::uint64_t step)
      : now_(new (::mmap(nullptr, sizeof(*now_), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                 std::atomic<std::uint64_t>(first)) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("make a pipe failed");
    std::cout.flush();
    process_ = ::fork();
    if (process_ < 0) throw std::runtime_error("start a process failed");
    if (process_ == 0) {
      const std::string told = tell(first, last, step, *now_).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
      for (std::size_t at = 0; at < told.size();) {
        const auto written = ::write(ends[1], told.data() + at, told.size() - at);
        if (written <= 0) std::exit(1);
        at += static_cast<std::size_t>(written);
      }
      std::exit(0);
    }
    ::close(ends[1]);
    said_ = ends[0];
  }
  Teller(const Teller&) = delete;
  Teller& operator=(const Teller&) = delete;
  ~Teller() {
    ::close(said_);
    ::munmap(now_, sizeof(*now_));
  }
  /// What tell() says; nothing where the process died.
  Json wait() {
    std::string text;
    std::array<char, 4'096> some{};
    for (ssize_t size = 0; (size = ::read(said_, some.data(), some.size())) > 0;)
      text.append(some.data(), static_cast<std::size_t>(size));
    int status = 0;
    ::waitpid(process_, &status, 0);
    return status == 0 ? Json::parse(text, nullptr, false) : Json(Json::value_t::discarded);
  }
  std::uint64_t under_way() const { return *now_; }

 private:
  std::atomic<std::uint64_t>* const now_;  // both processes see it
  pid_t process_ = -1;
  int said_ = -1;
};

unsigned num_cores() {
  cpu_set_t cores;
  return ::sched_getaffinity(0, sizeof(cores), &cores) == 0 ? static_cast<unsigned>(CPU_COUNT(&cores)) : 1;
}

TEST(Seeds, EveryStoryEndsWell) {
  const std::uint64_t first = only_seed.value_or(1);
  const std::uint64_t last = only_seed ? first : num_seeds();
  const std::uint64_t step = only_seed ? 1 : num_cores();
  std::vector<std::unique_ptr<Teller>> tellers;
  for (std::uint64_t i = 0; i < step; ++i) tellers.push_back(std::make_unique<Teller>(first + i, last, step));
  const auto to_see_it = [](const std::string& seed) { return "To see it again: " + program + " --seed=" + seed; };
  int num_told = 0, num_victims = 0;
  double seconds = 0, longest = 0;
  std::uint64_t longest_seed = 0;
  for (const auto& teller : tellers) {
    const Json told = teller->wait();
    if (told.is_discarded()) {
      ADD_FAILURE() << "seed " << teller->under_way() << " ended the program.\n"
                    << to_see_it(std::to_string(teller->under_way()));
      continue;
    }
    for (const auto& [seed, problems] : told["failures"].items()) {
      ADD_FAILURE() << "seed " << seed << ":\n" << problems.get<std::string>() << to_see_it(seed);
    }
    num_told += told["told"].get<int>();
    num_victims += told["victims"].get<int>();
    seconds += told["seconds"].get<double>();
    if (told["longest"].get<double>() > longest) longest = told["longest"], longest_seed = told["seed"];
  }
  std::cout << num_told << " stories, " << 1e3 * seconds / std::max(1, num_told) << " ms of CPU each; the longest took "
            << 1e3 * longest << " ms, seed " << longest_seed << "; of the victims in them, " << num_victims << " were judged\n";
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
