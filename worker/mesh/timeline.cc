#include "worker/mesh/timeline.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "crds/contract/hang.h"
#include "worker/mesh/left_out.h"

namespace trainyard::mesh {
namespace {

double steady_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr std::size_t kMostEvents = 200'000;  // of a trace: some 20 MB
constexpr std::size_t kManyFlights = 256;     // then those that are done are looked for without being asked

/// The last event counts those that there is no room for.
void leave_out(std::vector<Event>& events, double end) {
  if (events.back().name != kLeftOut) events.push_back({.name = kLeftOut, .track = "work", .begin = end});
  events.back().end = end;
  ++events.back().number;
}

bool has_own_limit(Work work) { return work == Work::kConnect || work == Work::kLeave; }

}  // namespace

Timeline::Timeline(std::function<double()> seconds) : seconds_(std::move(seconds)) {}
Timeline::Timeline() : Timeline(steady_seconds) {}

Timeline::Span::Span(Timeline& timeline, Work work, std::int32_t micro_batch, std::int32_t chunk)
    : timeline_(timeline), exceptions_(std::uncaught_exceptions()) {
  Open span;
  span.work = work;
  span.micro_batch = micro_batch;
  span.chunk = chunk;
  id_ = timeline.open(std::move(span));
}

Timeline::Span::Span(Timeline& timeline, const Call& call, std::shared_ptr<OnDevice> device)
    : timeline_(timeline), exceptions_(std::uncaught_exceptions()) {
  Open span;
  span.is_call = true;
  span.call = call;
  span.on_device = device != nullptr;
  id_ = timeline.open(std::move(span));
  if (device != nullptr) timeline.on_device(call, std::move(device));
}

Timeline::Span::~Span() { timeline_.close(id_, std::uncaught_exceptions() > exceptions_); }

Call Timeline::started(const std::string& group, const char* operation, std::int64_t elements, std::int32_t peer) {
  const std::lock_guard lock(mutex_);
  ++mark_;
  return {.group = group, .operation = operation, .number = ++started_[group], .elements = elements, .peer = peer};
}

std::uint64_t Timeline::open(Open span) {
  const std::lock_guard lock(mutex_);
  ++mark_;
  span.id = ++next_id_;
  span.begin = seconds_();
  open_.push_back(std::move(span));
  return next_id_;
}

void Timeline::on_device(const Call& call, std::shared_ptr<OnDevice> device) {
  const std::lock_guard lock(mutex_);
  if (flights_.size() >= kManyFlights) settle();
  flights_.push_back({.call = call, .begin = seconds_(), .device = std::move(device)});
}

void Timeline::close(std::uint64_t id, bool is_lost) {
  const std::lock_guard lock(mutex_);
  ++mark_;
  const auto at = std::find_if(open_.rbegin(), open_.rend(), [id](const Open& each) { return each.id == id; });
  const Open span = std::move(*at);
  open_.erase(std::next(at).base());
  const double end = seconds_(), length = end - span.begin;
  if (!open_.empty()) open_.back().within += length;
  if (is_lost && span.is_call && !lost_) lost_ = span;
  if (!span.is_call) {
    totals_.work[span.work] += length - span.within;
  } else if (!span.on_device) {
    totals_.calls[contract::axis_of_group(span.call.group)] += length - span.within;
  }
  if (!records_) return;
  if (events_.size() >= kMostEvents) return leave_out(events_, end);
  events_.push_back({.name = span.is_call ? span.call.operation : std::string(contract::name_of(span.work)),
                     .track = span.is_call ? span.call.group : "work",
                     .begin = span.begin,
                     .end = end,
                     .micro_batch = span.micro_batch,
                     .chunk = span.chunk,
                     .number = span.call.number,
                     .elements = span.call.elements});
}

void Timeline::touch() {
  const std::lock_guard lock(mutex_);
  ++mark_;
}

void Timeline::set_step(std::int64_t step, bool warm) {
  const std::lock_guard lock(mutex_);
  ++mark_;
  step_ = step;
  warm_ = warm;
}

contract::RankActivity Timeline::activity() {
  std::unique_lock lock(mutex_);
  contract::RankActivity out{.step = step_, .warm = warm_, .started = started_};
  const double now = seconds_();
  const auto waits_in = [&](const Call& call, double begin) {
    out.call = contract::GroupCall{.group = call.group,
                                   .operation = call.operation,
                                   .number = call.number,
                                   .elements = call.elements,
                                   .seconds = now - begin};
    if (call.peer >= 0) out.call->peer = call.peer;
  };
  for (const auto& span : open_) {
    if (span.is_call) {
      if (!span.on_device) waits_in(span.call, span.begin);
      continue;
    }
    out.doing = contract::name_of(span.work);
    if (span.micro_batch >= 0) out.doing += " of micro-batch " + std::to_string(span.micro_batch);
    if (has_own_limit(span.work)) ++mark_;
  }
  if (lost_) waits_in(lost_->call, lost_->begin);
  out.mark = mark_;
  // Of those that a device performs: the host has begun them all, the device may not have come to them. Its driver may hold whoever asks
  // up, which the training thread need not wait for.
  const auto flights = flights_;
  lock.unlock();
  bool is_first = true;
  try {
    for (const auto& [call, begin, device] : flights) {
      if (device->is_done()) continue;
      const bool begun = device->has_begun();
      if (is_first && begun) waits_in(call, begin);
      is_first = false;
      if (!begun) out.started[call.group] = std::min(out.started[call.group], call.number - 1);
    }
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // The device has failed for good. The training thread finds the same error, and tells of it with the words that say why.
  }
  return out;
}

/// Counts the calls that the device has done.
void Timeline::settle() {
  while (!flights_.empty() && flights_.front().device->is_done()) {
    totals_.calls[contract::axis_of_group(flights_.front().call.group)] += flights_.front().device->seconds();
    flights_.pop_front();
  }
}

Totals Timeline::take_totals() {
  const std::lock_guard lock(mutex_);
  settle();
  return std::exchange(totals_, {});
}

void Timeline::record(bool on) {
  const std::lock_guard lock(mutex_);
  records_ = on;
}

std::vector<Event> Timeline::take_events() {
  const std::lock_guard lock(mutex_);
  return std::exchange(events_, {});
}

}  // namespace trainyard::mesh
