#include "controller/kube/watcher.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "controller/kube/connection.h"
#include "controller/kube/listing.h"
#include "controller/kube/rest_kube_api.h"
#include "controller/kube/watch_lines.h"

namespace trainyard::kube {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::chrono::seconds kOpenTimeout{10};  // for a watch's headers
constexpr std::chrono::seconds kSettled{1};       // a watch that lived this long is worth opening again at once

}  // namespace

/// One target's thread and its two connections: requests with a time limit, and streams, whose connection may stand still for long.
class Watcher::Ear {
 public:
  Ear(const Credentials& credentials, std::size_t index, WatchTarget target, const WatchSink& sink, const WatchOptions& options)
      : index_(index),
        target_(std::move(target)),
        sink_(sink),
        options_(options),
        random_(std::random_device{}()),
        backoff_(options.backoff, std::mt19937(random_())),
        lists_(credentials, RetryLimits{.retries = 0}),
        streams_(credentials, options.length + options.slack),
        thread_([this](const std::stop_token& stop) { run(stop); }) {}

  ~Ear() {
    stop();
    join();
  }

  void stop() {
    thread_.request_stop();
    lists_.stop();
    streams_.stop();
  }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  bool synced() const { return synced_; }

 private:
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const bool went_well = resource_version_.empty() ? list(stop) : watch(stop);
      if (!went_well) pause(stop);
    }
  }

  bool list(const std::stop_token& stop) {
    const auto batch_of = [this](Listing listing, bool has_more) {
      WatchBatch batch = to_batch(index_, std::move(listing), has_more);
      batch.server_was_away = std::exchange(server_was_away_, false);
      return batch;
    };
    const TakePage take = [&](Listing page) {
      if (!stop.stop_requested()) sink_(batch_of(std::move(page), true));
    };
    ListResult result = list_all(lists_, target_, options_.page_limit, target_.by_page ? take : nullptr);
    if (stop.stop_requested()) return true;
    if (!result.ok()) {
      failed(result.failure);
      return false;
    }
    WatchBatch batch = batch_of(std::move(result.listing), false);
    resource_version_ = batch.resource_version;
    synced_ = true;
    sink_(std::move(batch));
    works();
    return true;
  }

  /// Returns false when the next try should wait.
  bool watch(const std::stop_token& stop) {
    const auto opened_at = Clock::now();
    const auto stream = streams_.open(watch_request());
    if (stop.stop_requested()) return true;
    if (!stream->head().ok()) {
      failed(stream->head());
      // 410: the history is gone. 0: the server was away, and who knows what it remembers.
      if (stream->head().status == 410 || stream->head().status == 0) resource_version_.clear();
      return false;
    }
    works();
    const bool heard = listen(*stream, stop);
    const bool settled = heard || Clock::now() - opened_at >= kSettled;
    if (settled) backoff_.reset();
    return settled;
  }

  /// Hands on what comes until the stream ends. True when anything came.
  bool listen(Stream& stream, const std::stop_token& stop) {
    WatchLines lines;
    bool heard = false;
    while (true) {
      const std::string bytes = stream.read();
      if (bytes.empty() || stop.stop_requested()) break;
      WatchNews news = lines.feed(bytes);
      if (!news.resource_version.empty()) {
        heard = true;
        resource_version_ = news.resource_version;
        sink_({.target = index_, .relisted = false, .events = std::move(news.events), .resource_version = resource_version_});
      }
      if (!news.error.empty()) {
        if (!news.expired) report(news.error);
        resource_version_.clear();
        break;
      }
    }
    return heard;
  }

  Request watch_request() {
    // Not all ears of all controllers at the same moment.
    const auto longest = options_.length.count();
    const milliseconds length(std::uniform_int_distribution<milliseconds::rep>(longest * 3 / 4, longest)(random_));
    const auto seconds = std::max<milliseconds::rep>(1, length.count() / 1000);
    Request request{.path = target_.path, .timeout = kOpenTimeout};
    request.query = {{"watch", "1"},
                     {"allowWatchBookmarks", "true"},
                     {"resourceVersion", resource_version_},
                     {"timeoutSeconds", std::to_string(seconds)}};
    if (!target_.label_selector.empty()) request.query["labelSelector"] = target_.label_selector;
    return request;
  }

  void failed(const Response& response) {
    retry_after_ = response.retry_after;
    if (response.status == 0 || response.status >= 500) server_was_away_ = true;
    std::string what = response.message;
    if (response.status != 0) what = std::to_string(response.status) + " " + response.reason + ": " + what;
    if (response.status == 404)
      what = "the API server does not know " + target_.path + ": is its CustomResourceDefinition installed?";
    report(what);
    // A namespace that is gone, or not given to us any more, keeps nobody from the others.
    if (response.status == 403 && target_.path.find("/namespaces/") != std::string::npos) synced_ = true;
  }

  void pause(const std::stop_token& stop) {
    milliseconds time = backoff_.next();
    if (retry_after_) time = std::max<milliseconds>(time, *retry_after_);
    retry_after_.reset();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, time, [] { return false; });
  }

  void report(const std::string& what) {
    if (options_.trouble && !in_trouble_) options_.trouble(index_, what);
    in_trouble_ = true;
  }
  void works() {
    if (options_.trouble && in_trouble_) options_.trouble(index_, "");
    in_trouble_ = false;
  }

  const std::size_t index_;
  const WatchTarget target_;
  const WatchSink sink_;
  const WatchOptions options_;
  std::mt19937 random_;
  Backoff backoff_;
  std::optional<std::chrono::seconds> retry_after_;
  std::string resource_version_;  // where to go on; empty: list
  bool in_trouble_ = false;
  bool server_was_away_ = false;
  std::atomic<bool> synced_ = false;
  std::mutex mutex_;  // for `changed_` alone: nothing but a stop ends a pause early
  std::condition_variable_any changed_;
  RestKubeApi lists_;
  Connection streams_;
  std::jthread thread_;  // last: it uses all of the above
};

Watcher::Watcher(const Credentials& credentials, std::vector<WatchTarget> targets, const WatchSink& sink,
                 const WatchOptions& options) {
  for (std::size_t i = 0; i < targets.size(); ++i) {
    ears_.push_back(std::make_unique<Ear>(credentials, i, std::move(targets[i]), sink, options));
  }
}

Watcher::~Watcher() { stop(); }

void Watcher::stop() {
  for (const auto& ear : ears_) ear->stop();
  for (const auto& ear : ears_) ear->join();
}

bool Watcher::synced() const {
  for (const auto& ear : ears_) {
    if (!ear->synced()) return false;
  }
  return true;
}

}  // namespace trainyard::kube
