#include "controller/observe/span_exporter.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "controller/observe/otlp_connection.h"

namespace trainyard::observe {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

}  // namespace

class SpanExporter::Sender {
 public:
  Sender(const TracingSettings& settings, SpanExporterOptions options)
      : settings_(settings), options_(std::move(options)), connection_(settings), thread_([this] { run(); }) {}

  ~Sender() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    deadline_ = SteadyClock::now() + options_.flush;
    changed_.notify_all();
    ended_.wait_until(lock, deadline_, [this] { return has_ended_; });
    lock.unlock();
    connection_.abort();
    thread_.join();
  }

  void add(std::vector<Span> spans) {
    if (spans.empty()) return;
    std::size_t dropped = 0;
    {
      const std::lock_guard lock(mutex_);
      std::move(spans.begin(), spans.end(), std::back_inserter(waiting_));
      if (waiting_.size() > options_.most_waiting) {
        dropped = waiting_.size() - options_.most_waiting;
        waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(dropped));
      }
    }
    changed_.notify_all();
    if (dropped > 0) options_.counted(span_result::kOverflow, dropped);
  }

 private:
  void run() {
    for (auto batch = next(); !batch.empty(); batch = next()) deliver(batch);
    const std::lock_guard lock(mutex_);
    has_ended_ = true;
    ended_.notify_all();
  }

  /// Empty: the end.
  std::vector<Span> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    changed_.wait_for(lock, options_.delay, [this] { return stopping_ || waiting_.size() >= options_.batch; });
    const auto size = static_cast<std::ptrdiff_t>(std::min(waiting_.size(), options_.batch));
    std::vector<Span> batch(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.begin() + size));
    waiting_.erase(waiting_.begin(), waiting_.begin() + size);
    return batch;
  }

  void deliver(const std::vector<Span>& batch) {
    const std::string body =
        trace_request(settings_.resource, options_.version, batch).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    const auto begun = SteadyClock::now();
    milliseconds wait = options_.first_wait;
    while (true) {
      const milliseconds timeout = time_for_a_try();
      if (timeout <= milliseconds(0)) return options_.counted(span_result::kEnd, batch.size());
      const bool is_last = is_stopping();
      const Verdict verdict = verdict_on(connection_.post(body, timeout));
      tell(verdict);
      if (verdict.what == Verdict::What::kTaken) return count_taken(batch.size(), verdict);
      if (verdict.what == Verdict::What::kRefused) return options_.counted(span_result::kRefused, batch.size());
      if (is_last) return options_.counted(span_result::kEnd, batch.size());
      if (SteadyClock::now() - begun >= options_.give_up) return options_.counted(span_result::kGivenUp, batch.size());
      rest(std::max<milliseconds>(with_jitter(wait), verdict.wait.value_or(std::chrono::seconds(0))), begun + options_.give_up);
      wait = std::min(2 * wait, options_.last_wait);
    }
  }

  void count_taken(std::size_t number, const Verdict& verdict) {
    const std::size_t refused = std::min(number, static_cast<std::size_t>(std::max<std::int64_t>(0, verdict.refused)));
    if (refused > 0) options_.counted(span_result::kRefused, refused);
    if (number > refused) options_.counted(span_result::kSent, number - refused);
  }

  /// At a change alone.
  void tell(const Verdict& verdict) {
    const bool is_bad = !verdict.problem.empty();
    if (std::exchange(is_bad_, is_bad) != is_bad) options_.trouble(verdict.problem);
  }

  milliseconds with_jitter(milliseconds wait) {
    return milliseconds(std::uniform_int_distribution<milliseconds::rep>(wait.count() / 2, wait.count())(random_));
  }

  /// Ends early at the end of the program.
  void rest(milliseconds wait, SteadyClock::time_point at_most) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, std::min(SteadyClock::now() + wait, at_most), [this] { return stopping_; });
  }

  bool is_stopping() {
    const std::lock_guard lock(mutex_);
    return stopping_;
  }

  milliseconds time_for_a_try() {
    const std::lock_guard lock(mutex_);
    if (!stopping_) return settings_.timeout;
    return std::min(settings_.timeout, std::chrono::duration_cast<milliseconds>(deadline_ - SteadyClock::now()));
  }

  const TracingSettings settings_;
  const SpanExporterOptions options_;
  OtlpConnection connection_;
  std::mt19937 random_{std::random_device{}()};
  bool is_bad_ = false;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_, ended_;
  std::deque<Span> waiting_;
  bool stopping_ = false, has_ended_ = false;
  SteadyClock::time_point deadline_;  // once it is stopping
  std::jthread thread_;
};

SpanExporter::SpanExporter(const TracingSettings& settings, SpanExporterOptions options)
    : sender_(std::make_unique<Sender>(settings, std::move(options))) {}
SpanExporter::~SpanExporter() = default;
void SpanExporter::add(std::vector<Span> spans) { sender_->add(std::move(spans)); }

}  // namespace trainyard::observe
