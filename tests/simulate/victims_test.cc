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

/// Jobs of two queues of one tree, which borrow of each other what there is, of two priorities.
class Borrowing {
 public:
  explicit Borrowing(std::uint64_t seed, bool has_gpus = false) : world_(seed), has_gpus_(has_gpus) {}

  void tell() {
    world_.add_priority_class("high", 100);
    const int nodes = random(2, 3), gpus = random(1, 2);
    world_.add_nodes(nodes, kCpus, gpus);
    const int room = nodes * kCpus, of_a = random(2, room - 2);
    add_queue("a", of_a);
    add_queue("b", room - of_a - random(0, 2));
    invariants_.queues = Invariants::TwoQueues{.a = quota_[0], .b = quota_[1], .a_lends = {}, .b_borrows = {}};
    world_.start_controller(0);
    const int owner = random(0, 1), other = 1 - owner;  // the one borrows all that the other leaves, and that one comes
    for (int taken = 0; taken < quota_[0] + quota_[1] - 1;) taken += add_job(owner, "", random(1, 3));
    world_.time.run_for(kQuiet);
    for (int i = 0; i < 4; ++i) {
      const int workers = random(1, std::max(1, quota_[static_cast<std::size_t>(other)] / 2));
      add_job(other, world_.time.one_in(3) ? "high" : "", workers);
      world_.time.run_for(kQuiet);
    }
    for (int i = 0; i < 2; ++i) {
      add_job(random(0, 1), "high", random(1, 3));
      world_.time.run_for(kQuiet);
    }
  }
  std::vector<std::string> violations() const { return invariants_.violations(); }
  int num_judged() const { return invariants_.num_victims_judged(); }

 private:
  static constexpr int kCpus = 4;

  int random(int low, int high) { return static_cast<int>(world_.time.random(low, high)); }
  void add_queue(const std::string& name, int cpus) {
    if (quota_.empty()) world_.add_queue("all", Json::object());
    quota_.push_back(cpus);
    const Json resources = Json::array({{{"name", "cpu"}, {"nominal", cpus}}});
    world_.add_queue(name, {{"parent", "all"}, {"flavors", Json::array({{{"resources", resources}}})}});
  }
  int add_job(int queue, const char* priority_class, int workers) {
    JobShape shape{.name = "job-" + std::to_string(++names_), .workers = workers, .steps = 2'000};
    shape.priority_class = priority_class;
    shape.queue = queue == 0 ? "a" : "b";
    if (workers == 1 && world_.time.one_in(3)) shape.gpus = has_gpus_ ? 1 : 0;
    world_.apply(shape);
    return workers;
  }

  World world_;
  const bool has_gpus_;
  Invariants invariants_{world_};
  std::vector<int> quota_;
  int names_ = 0;
};

/// Some of them with GPUs.
struct BorrowingOnGpus : Borrowing {
  explicit BorrowingOnGpus(std::uint64_t seed) : Borrowing(seed, true) {}
};
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
TEST(Victims, OfAQueueThatBorrowsAreThoseWhoseQuotaSomebodyNeeds) { expect_all_are_needed<Borrowing>(1); }
TEST(Victims, OfAQueueThatBorrowsAreThoseWhoseQuotaOrGpusSomebodyNeeds) { expect_all_are_needed<BorrowingOnGpus>(1); }

}  // namespace
}  // namespace trainyard::simulate
