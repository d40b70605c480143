#pragma once
// What a rank does, and since when. Whoever works says so here with a span; three ask: the heartbeat that tells the agent whether the rank
// still moves, the metrics that tell where a step's time goes, and the trace of chosen steps.

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/state.h"

namespace trainyard::mesh {

enum class Work { kConnect, kLoad, kData, kForward, kBackward, kOptimizer, kEvaluation, kCheckpoint, kLeave };
constexpr auto enum_names(Work) {
  return std::to_array<std::string_view>(
      {"connect", "load", "data", "forward", "backward", "optimizer", "evaluation", "checkpoint", "leave"});
}

/// A call of a group; see contract::GroupCall.
struct Call {
  std::string group;
  const char* operation = "";
  std::int64_t number = 0;
  std::int64_t elements = 0;
  std::int32_t peer = -1;  // the rank of the world at the other end of a send or receive; else negative
};

/// A call that a device performs in its turn, when the host has long gone on. Asked from any thread.
class OnDevice {
 public:
  virtual ~OnDevice() = default;
  virtual bool has_begun() = 0;  // all before it is done
  virtual bool is_done() = 0;
  virtual double seconds() = 0;  // that the device waited for it; once it is done
};

/// Seconds that do not overlap: of a part that others are within, what is left without them.
struct Totals {
  std::map<Work, double> work;
  std::map<std::string, double> calls;  // by axis
};

/// A span that has ended, for a trace.
struct Event {
  std::string name;           // forward, all_reduce, …
  std::string track;          // work, or the group of a call
  double begin = 0, end = 0;  // of the clock
  std::int32_t micro_batch = -1;
  std::int32_t chunk = -1;
  std::int64_t number = 0;    // of a call
  std::int64_t elements = 0;  // of a call
};

/// Any thread; spans of a rank's threads lie within each other, since one waits while another works for it.
class Timeline {
 public:
  /// `seconds`: a clock that does not go back.
  explicit Timeline(std::function<double()> seconds);
  /// With the steady clock.
  Timeline();

  /// From here to the end of the scope.
  class Span {
   public:
    Span(Timeline& timeline, Work work, std::int32_t micro_batch = -1, std::int32_t chunk = -1);
    /// The host waits in a call. `device`: where one performs it; then its seconds count, not the host's.
    Span(Timeline& timeline, const Call& call, std::shared_ptr<OnDevice> device = nullptr);
    /// A call that an exception ends is remembered: the others may still wait in it.
    ~Span();
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    Timeline& timeline_;
    std::uint64_t id_;
    int exceptions_;
  };

  /// Numbers a call that is begun.
  Call started(const std::string& group, const char* operation, std::int64_t elements, std::int32_t peer = -1);

  /// A sign of progress of something that has no span.
  void touch();
  void set_step(std::int64_t step, bool warm);

  /// For the agent; `rank` is left to the caller. A wait that has a limit of its own (for all ranks to connect, or to leave) counts as progress.
  contract::RankActivity activity();
  /// Since the last time it was asked.
  Totals take_totals();
  /// Keeps what ends from now on, or stops to.
  void record(bool on);
  std::vector<Event> take_events();
  double seconds() const { return seconds_(); }

 private:
  struct Open {
    std::uint64_t id = 0;
    bool is_call = false;
    bool on_device = false;
    Work work = Work::kConnect;
    Call call;
    std::int32_t micro_batch = -1, chunk = -1;
    double begin = 0;
    double within = 0;  // seconds of the spans within it
  };
  struct Flight {
    Call call;
    double begin = 0;
    std::shared_ptr<OnDevice> device;
  };
  std::uint64_t open(Open span);
  void on_device(const Call& call, std::shared_ptr<OnDevice> device);
  void close(std::uint64_t id, bool is_lost);
  void settle();

  const std::function<double()> seconds_;
  std::mutex mutex_;
  std::vector<Open> open_;  // the innermost last
  std::deque<Flight> flights_;
  std::optional<Open> lost_;  // the call that an exception ended first
  std::map<std::string, std::int64_t> started_;
  Totals totals_;
  std::vector<Event> events_;
  bool records_ = false;
  std::uint64_t next_id_ = 0;
  std::int64_t mark_ = 0;
  std::int64_t step_ = 0;
  bool warm_ = false;
};

}  // namespace trainyard::mesh
