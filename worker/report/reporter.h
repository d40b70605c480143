#pragma once
// What a rank says to its agent: one JSON object a line on file descriptor 3 (contract::Report). Where nobody opened that descriptor,
// as when a person starts the program by hand, it prints lines for people to stderr.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "crds/contract/state.h"

namespace trainyard::report {

/// Called by the training thread, which never waits for the pipe: a helper thread writes, in the order of the calls. While the pipe is
/// full, the newest 256 of progress are kept and the newest 64 of notices and checkpoints; a failure is never dropped.
class Reporter {
 public:
  /// Writes to contract::kReportDescriptor when it is open, else for people to stderr. Does not close either.
  Reporter();
  /// For tests: `json` false writes for people.
  Reporter(int descriptor, bool json);
  /// As close().
  ~Reporter();
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  void progress(contract::Progress progress, std::optional<contract::Measures> measures = std::nullopt);
  /// What this rank does; of those that wait for the pipe only the newest is kept. People are not told.
  void activity(contract::RankActivity activity, std::optional<contract::Measures> measures = std::nullopt);
  /// A checkpoint is durable; `request` is the one that it answers.
  void checkpoint(contract::CheckpointStatus checkpoint, std::optional<std::int64_t> request = std::nullopt);
  void notice(bool warning, std::string reason, std::string message);
  void failure(contract::Failure failure);
  /// Writes what is left and stops; if the agent does not read, it waits for it for 5 seconds. Later reports are dropped.
  void close();

 private:
  void add(contract::Report report);
  void drop_oldest();
  void run();
  bool should_give_up();
  bool write_line(const std::string& line);

  const int descriptor_;
  const bool json_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<contract::Report> queue_;
  bool closed_ = false;
  std::chrono::steady_clock::time_point give_up_;  // after close()
  std::jthread writer_;
};

}  // namespace trainyard::report
