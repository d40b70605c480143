// Gangs that make room: in stories of one controller and no faults, where it is clear at each moment what room there is, so that each of them
// is judged (Invariants::check_victim). Of the stories of seeds_test.cc, in which everything happens at once, few are.

#include <algorithm>
#include <iostream>
#include <map>

#include <gtest/gtest.h>

#include "tests/simulate/invariants.h"
#include "tests/simulate/seeds.h"
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

/// Jobs of queues of one tree, which borrow of each other what there is, of two priorities. Nothing but a job that comes changes anything.
class Borrowing {
 public:
  explicit Borrowing(std::uint64_t seed, bool has_gpus = false) : world_(seed), has_gpus_(has_gpus) {}
  virtual ~Borrowing() = default;

  void tell() {
    world_.add_priority_class("high", 100);
    const int nodes = random(2, 3), gpus = random(1, 2);
    world_.add_nodes(nodes, kCpus, gpus);
    add_queues(nodes * kCpus);
    world_.settings.preempted_min_run = min_run_;
    world_.start_controller(0);
    const int last = static_cast<int>(leaves_.size()) - 1;
    const int owner = random(0, last);  // borrows all that the others leave, and one of those comes
    const int other = (owner + random(1, last)) % (last + 1);
    for (int taken = 0; taken < room_ - 1;) taken += add_job(owner, "", random(1, 3));
    wait();
    for (int i = 0; i < 4; ++i) {
      const int workers = random(1, std::max(1, most_of_its_own(other) / 2));
      add_job(other, world_.time.one_in(3) ? "high" : "", workers);
      wait();
    }
    for (int i = 0; i < 2; ++i) {
      add_job(random(0, last), "high", random(1, 3));
      wait();
    }
  }
  std::vector<std::string> violations() const {
    auto out = invariants_.violations();
    out.insert(out.end(), loops_.begin(), loops_.end());
    return out;
  }
  int num_judged() const { return invariants_.num_victims_judged(); }

 protected:
  int random(int low, int high) { return static_cast<int>(world_.time.random(low, high)); }
  virtual void add_queues(int room) {
    const int of_a = random(2, room - 2);
    set_queues(CpuQuota::of_two(of_a, room - of_a - random(0, 2)), {"a", "b"});
  }
  void set_queues(CpuQuota quota, std::vector<std::string> leaves) {
    for (const auto& queue : quota.queues()) {
      room_ += static_cast<int>(queue.nominal);
      const Json resources = Json::array({{{"name", "cpu"}, {"nominal", queue.nominal}}});
      const Json flavors = Json::array({{{"resources", resources}}});
      world_.add_queue(queue.name, queue.parent.empty() ? Json::object() : Json{{"parent", queue.parent}, {"flavors", flavors}});
    }
    invariants_.quota = std::move(quota);
    leaves_ = std::move(leaves);
  }
  seconds min_run_{600};

 private:
  static constexpr int kCpus = 4;

  /// With what the queue above it brings.
  int most_of_its_own(int leaf) const {
    int out = 0;
    for (std::string at = leaves_[static_cast<std::size_t>(leaf)]; !at.empty();) {
      const auto& queues = invariants_.quota.queues();
      const auto& queue = *std::find_if(queues.begin(), queues.end(), [&at](const auto& item) { return item.name == at; });
      out += static_cast<int>(queue.nominal);
      at = queue.parent;
    }
    return out;
  }
  int add_job(int leaf, const char* priority_class, int workers) {
    JobShape shape{.name = "job-" + std::to_string(++names_), .workers = workers, .steps = 2'000};
    shape.priority_class = priority_class;
    shape.queue = leaves_[static_cast<std::size_t>(leaf)];
    if (workers == 1 && world_.time.one_in(3)) shape.gpus = has_gpus_ ? 1 : 0;
    world_.apply(shape);
    return workers;
  }
  /// Whoever comes, a gang is stopped once for it at most.
  void wait() {
    std::map<std::string, int> before;
    for (int i = 1; i <= names_; ++i) {
      const std::string name = "job-" + std::to_string(i);
      before[name] = i == names_ ? 0 : world_.status(name).preemptions;
    }
    world_.time.run_for(kQuiet);
    for (const auto& [name, preemptions] : before) {
      const int more = world_.status(name).preemptions - preemptions;
      if (more > 1)
        loops_.push_back(name + " made room " + std::to_string(more) + " times when job-" + std::to_string(names_) + " came");
    }
  }

  World world_;
  const bool has_gpus_;
  Invariants invariants_{world_};
  std::vector<std::string> leaves_, loops_;
  int room_ = 0, names_ = 0;
};

/// Two of the queues are below a third, which brings quota for both.
struct BorrowingInADepartment : Borrowing {
  explicit BorrowingInADepartment(std::uint64_t seed) : Borrowing(seed) {}
  void add_queues(int room) override {
    const int department = random(0, room / 2), of_a = random(0, (room - department) / 2), of_b = random(0, 2);
    set_queues(CpuQuota({{.name = "all", .parent = "", .nominal = 0, .lends = {}, .borrows = {}},
                         {.name = "department", .parent = "all", .nominal = department, .lends = {}, .borrows = {}},
                         {.name = "a", .parent = "department", .nominal = of_a, .lends = {}, .borrows = {}},
                         {.name = "b", .parent = "department", .nominal = of_b, .lends = {}, .borrows = {}},
                         {.name = "c",
                          .parent = "all",
                          .nominal = std::max(0, room - department - of_a - of_b - random(0, 2)),
                          .lends = {},
                          .borrows = {}}}),
               {"a", "b", "c"});
  }
};

/// The same where one that was stopped may be stopped again at once.
template <class Story>
struct AtOnce : Story {
  explicit AtOnce(std::uint64_t seed) : Story(seed) { this->min_run_ = seconds(0); }
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
  const std::uint64_t stories = num_stories(kStories);
  int num_judged = 0;
  for (std::uint64_t seed = 1; seed <= stories; ++seed) {
    Story story(seed);
    story.tell();
    EXPECT_EQ(story.violations(), std::vector<std::string>{}) << "seed " << seed;
    num_judged += story.num_judged();
  }
  std::cout << stories << " stories, " << num_judged << " gangs that made room, all judged\n";
  EXPECT_GE(num_judged, stories < kStories ? 1 : judged_a_story * static_cast<int>(stories)) << "else this says little";
}

TEST(Victims, AreThoseWhoseRoomSomebodyNeeds) { expect_all_are_needed<Crowding>(2); }
TEST(Victims, OnGpusAreThoseWhoseGpusOrCpusSomebodyNeeds) { expect_all_are_needed<CrowdingOnGpus>(1); }
TEST(Victims, OfAQueueThatBorrowsAreThoseWhoseQuotaSomebodyNeeds) { expect_all_are_needed<Borrowing>(1); }
TEST(Victims, OfAQueueThatBorrowsAreThoseWhoseQuotaOrGpusSomebodyNeeds) { expect_all_are_needed<BorrowingOnGpus>(1); }
TEST(Victims, OfQueuesInADepartmentAreThoseWhoseQuotaSomebodyNeeds) { expect_all_are_needed<BorrowingInADepartment>(1); }
TEST(Victims, AreNotStoppedInTurns) { expect_all_are_needed<AtOnce<Borrowing>>(1); }
TEST(Victims, InADepartmentAreNotStoppedInTurns) { expect_all_are_needed<AtOnce<BorrowingInADepartment>>(1); }

}  // namespace
}  // namespace trainyard::simulate
