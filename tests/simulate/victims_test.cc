// Gangs that make room: in stories of one controller and no faults, where it is clear at each moment what room there is, so that each of them
// is judged (Invariants::check_victim). Of the stories of seeds_test.cc, in which everything happens at once, few are.

#include <iostream>

#include <gtest/gtest.h>

#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {
namespace {

constexpr std::uint64_t kStories = 60;
constexpr seconds kQuiet{40};  // longer than what a controller decides on may be old

/// Long jobs of several priorities come into a small cluster one after another, the higher the later.
class Crowding {
 public:
  explicit Crowding(std::uint64_t seed, bool has_gpus = false) : world_(seed), has_gpus_(has_gpus) {}

  void tell() {
    world_.add_priority_class("high", 100);
    world_.add_priority_class("middle", 50);
    world_.add_nodes(random(2, 4), cpus_, has_gpus_ ? 2 : 0);
    world_.start_controller(0);
    const int room = static_cast<int>(world_.nodes().size()) * cpus_;
    for (int taken = 0; taken < room - 1;) taken += add_job("", random(1, 3));
    world_.time.run_for(kQuiet);
    for (int i = 0; i < 3; ++i) {
      add_job("middle", random(1, room / 4));
      world_.time.run_for(kQuiet);
    }
    for (int i = 0; i < 3; ++i) {
      add_job("high", random(1, room / 3));
      world_.time.run_for(kQuiet);
    }
  }
  std::vector<std::string> violations() const { return invariants_.violations(); }
  int num_judged() const { return invariants_.num_victims_judged(); }

 private:
  int random(int low, int high) { return static_cast<int>(world_.time.random(low, high)); }
  int add_job(const char* priority_class, int workers) {
    JobShape shape{
        .name = "job-" + std::to_string(++names_), .workers = workers, .steps = 1'000, .priority_class = priority_class};
    if (workers > 1 && world_.time.one_in(3)) shape.least = random(1, workers);
    if (has_gpus_ && workers <= 2 && world_.time.one_in(2)) shape.gpus = 1;
    world_.apply(shape);
    return workers;
  }

  World world_;
  const bool has_gpus_;
  Invariants invariants_{world_};
  int cpus_ = random(4, 6), names_ = 0;
};

/// Some of them with GPUs.
struct CrowdingOnGpus : Crowding {
  explicit CrowdingOnGpus(std::uint64_t seed) : Crowding(seed, true) {}
};

template <class Story>
void expect_all_are_needed(int judged_a_story) {
  int num_judged = 0;
  for (std::uint64_t seed = 1; seed <= kStories; ++seed) {
    Story story(seed);
    story.tell();
    EXPECT_EQ(story.violations(), std::vector<std::string>{}) << "seed " << seed;
    num_judged += story.num_judged();
  }
  std::cout << kStories << " stories, " << num_judged << " gangs that made room, all judged\n";
  EXPECT_GE(num_judged, judged_a_story * static_cast<int>(kStories)) << "else this says little";
}

TEST(Victims, AreThoseWhoseRoomSomebodyNeeds) { expect_all_are_needed<Crowding>(2); }
TEST(Victims, OnGpusAreThoseWhoseGpusOrCpusSomebodyNeeds) { expect_all_are_needed<CrowdingOnGpus>(1); }

}  // namespace
}  // namespace trainyard::simulate
