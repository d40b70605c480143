#include "worker/report/reporter.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "worker/report/text.h"

namespace trainyard::report {

using contract::Report;
using contract::ReportKind;

namespace {

constexpr std::size_t kMostQueued = 64;
constexpr std::size_t kMostProgress = 256;
constexpr std::chrono::milliseconds kLookAtStop{100};  // between two looks at whether close() waits, while the pipe is full
constexpr std::chrono::seconds kCloseTimeout{5};

bool is_open(int descriptor) { return ::fcntl(descriptor, F_GETFD) != -1; }

}  // namespace

Reporter::Reporter()
    : Reporter(is_open(contract::kReportDescriptor) ? contract::kReportDescriptor : STDERR_FILENO,
               is_open(contract::kReportDescriptor)) {}

Reporter::Reporter(int descriptor, bool json) : descriptor_(descriptor), json_(json), writer_([this] { run(); }) {}

Reporter::~Reporter() { close(); }

void Reporter::progress(contract::Progress progress, std::optional<contract::Measures> measures) {
  add({.kind = ReportKind::kProgress, .progress = std::move(progress), .measures = std::move(measures)});
}

void Reporter::activity(contract::RankActivity activity, std::optional<contract::Measures> measures) {
  if (json_) add({.kind = ReportKind::kActivity, .activity = std::move(activity), .measures = std::move(measures)});
}

void Reporter::checkpoint(contract::CheckpointStatus checkpoint, std::optional<std::int64_t> request) {
  add({.kind = ReportKind::kCheckpoint, .checkpoint = std::move(checkpoint), .request = request});
}

void Reporter::notice(bool warning, std::string reason, std::string message) {
  add({.kind = ReportKind::kNotice,
       .notice = contract::Notice{.warning = warning, .reason = std::move(reason), .message = std::move(message)}});
}

void Reporter::failure(contract::Failure failure) {
  add({.kind = ReportKind::kFailure, .failure = contract::trimmed(std::move(failure))});
}

void Reporter::add(Report report) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    queue_.push_back(std::move(report));
    drop_oldest();
  }
  changed_.notify_one();
}

/// Of the kind of the newest, if there are too many.
void Reporter::drop_oldest() {
  const auto most_of = [](ReportKind kind) -> std::size_t {
    switch (kind) {
      case ReportKind::kProgress: return kMostProgress;
      case ReportKind::kActivity: return 1;
      default: return kMostQueued;
    }
  };
  const std::size_t most = most_of(queue_.back().kind);
  const auto of_the_kind = [&](const Report& report) {
    return report.kind != ReportKind::kFailure && most_of(report.kind) == most;
  };
  const auto many = static_cast<std::size_t>(std::count_if(queue_.begin(), queue_.end(), of_the_kind));
  if (many <= most) return;
  queue_.erase(std::find_if(queue_.begin(), queue_.end(), of_the_kind));
}

void Reporter::close() {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) give_up_ = std::chrono::steady_clock::now() + kCloseTimeout;
    closed_ = true;
  }
  changed_.notify_one();
  if (writer_.joinable()) writer_.join();
}

void Reporter::run() {
  // A write to an agent that is gone is an error of this write, not the end of the rank.
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
  for (bool alive = true; alive;) {
    Report next;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
      if (queue_.empty()) return;  // closed, and nothing is left
      next = std::move(queue_.front());
      queue_.pop_front();
    }
    alive = write_line(
        (json_ ? contract::encode(next).dump(-1, ' ', false, contract::Json::error_handler_t::replace) : to_text(next)) + "\n");
  }
  // Nobody reads any more: the agent is gone, and this rank with it soon. Training does not end because of that.
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool Reporter::should_give_up() {
  const std::lock_guard lock(mutex_);
  return closed_ && std::chrono::steady_clock::now() >= give_up_;
}

/// False when the reader is gone, or does not read though close() has waited long enough.
bool Reporter::write_line(const std::string& line) {
  for (std::size_t done = 0; done < line.size();) {
    pollfd ready{.fd = descriptor_, .events = POLLOUT, .revents = 0};
    const int polled = ::poll(&ready, 1, static_cast<int>(kLookAtStop.count()));
    if (polled < 0 && errno != EINTR) return false;
    if (polled <= 0) {
      if (should_give_up()) return false;
      continue;
    }
    // At most PIPE_BUF bytes: POLLOUT promises room for those, so that not even a blocking descriptor blocks.
    const auto written = ::write(descriptor_, line.data() + done, std::min<std::size_t>(line.size() - done, PIPE_BUF));
    if (written < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (written > 0) done += static_cast<std::size_t>(written);
  }
  return true;
}

}  // namespace trainyard::report
