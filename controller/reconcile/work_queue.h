#pragma once
// What is to be looked at next, and no sooner than makes sense.

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <optional>

#include "controller/decide/cluster.h"
#include "controller/reconcile/executor.h"

namespace trainyard::reconcile {

enum class Kind { kRoom, kQueues, kTrainingJob };  // schedule() and plan_queues(), each one for the whole cluster
struct Key {
  Kind kind = Kind::kTrainingJob;
  decide::ObjectKey object;
  auto operator<=>(const Key&) const = default;
};
std::string to_text(const Key& key);

/// A key that failed waits `first`, then twice as long each time, at most `limit`. A key that goes on and on runs once an `interval`;
/// one that did not run for a while may run so many times `at_once` before that holds: what follows from one's own writes, as a job's
/// first steps do, should not wait. (The generic cell rate algorithm, ITU-T I.371.)
struct Pace {
  std::chrono::milliseconds interval{50};
  int at_once = 4;
  std::chrono::milliseconds first{100};
  std::chrono::milliseconds limit{60'000};
  /// How long to wait after so many failures in a row.
  std::chrono::milliseconds backoff(int failures) const;
};

/// How a run ended.
enum class Ended {
  kWell,      // failures are forgotten
  kConflict,  // somebody else wrote: again when the watch shows it, or else after the back-off
  kFailed     // again after the back-off, whatever happens before
};

/// Runs each key that was added once; a key is never run twice at the same time, and what is added while it runs or waits is run
/// once more. Of jobs no more than kAtOnce run at a time, since what a run wants done is held until it ends: a new leader looks at all
/// jobs, of which there may be tens of thousands; who comes later waits for the end of one of them. Lives on the brain; `run` is called
/// from its loop and answered by done(), then or later.
class WorkQueue {
 public:
  static constexpr std::size_t kAtOnce = 1'000;
  using Run = std::function<void(const Key&)>;
  WorkQueue(Executor& executor, Run run, Pace pace = {});

  void add(const Key& key);
  /// At the latest after `delay`.
  void add_after(const Key& key, std::chrono::milliseconds delay);
  /// How long until the key could run: 0: now; nothing: it is running.
  std::optional<std::chrono::milliseconds> ready_in(const Key& key) const;
  /// Counts the key as running, without a call of `run`. Only where ready_in() is 0.
  void claim(const Key& key);
  /// Of a key that runs: since when there was a cause to, by uptime().
  std::chrono::milliseconds cause_at(const Key& key) const;
  /// Where it did not end well, the next run begins no sooner than `at_least` from now, but after a conflict; where it did, `at_least`
  /// takes the place of the interval.
  void done(const Key& key, Ended ended, std::chrono::milliseconds at_least = {});
  /// Nothing is wanted any more, all failures are forgotten, and runs that have begun are not waited for.
  void clear();

 private:
  using Moment = std::chrono::milliseconds;  // of uptime()
  struct Item {
    bool wanted = false;
    bool posted = false;  // a look at it is on its way
    bool running = false;
    bool in_line = false;  // it is ready, and kAtOnce others run
    int failures = 0;
    Moment wanted_at{0};
    Moment cause_at{0};  // of the run that has begun
    Moment not_before{0};
    Moment paced_to{0};  // where its runs would have come to at one an interval
    std::optional<Moment> look_at;
    std::optional<Moment> timer;  // the earliest one set
  };
  void post(const Key& key, Item& item);
  void look(const Key& key);
  void begin(const Key& key, Item& item);
  void advance_soon();
  void set_timer(const Key& key, Item& item, Moment at);

  Executor& executor_;
  const Run run_;
  const Pace pace_;
  std::map<Key, Item> items_;
  std::size_t running_ = 0;  // of jobs
  std::deque<Key> line_;
  bool advance_posted_ = false;
};

}  // namespace trainyard::reconcile
