#pragma once
// The ears: one thread for each watched collection lists it, watches it, and hands on what it hears.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controller/kube/backoff.h"
#include "controller/kube/credentials.h"
#include "controller/kube/kube_api.h"
#include "controller/kube/listing.h"

namespace trainyard::kube {

struct WatchOptions {
  std::size_t page_limit = kPageLimit;
  /// The server ends a watch after this time, and it is opened again where it ended. A stream from which nothing came for this time
  /// and `slack` is dead (its server went away without a word).
  std::chrono::milliseconds length{60'000};
  std::chrono::milliseconds slack{15'000};
  /// Short, because after an outage of the API server the controller should be back within seconds.
  BackoffLimits backoff{};
  /// Told once when a collection cannot be listed or watched (`what` says why), and once when it works again (empty). For logs and
  /// metrics; on the ear's thread.
  std::function<void(std::size_t target, const std::string& what)> trouble;
};

/// Lists each target by a consistent read, as one batch or by page, then watches it from there with bookmarks. Batches hold whatever had arrived, in the order of
/// the server; a bookmark alone, which comes about once a minute, is a batch without events. A watch that ends goes on where it ended; a target is listed again after a
/// 410, and when the server was away (a watch could not be opened again), so that the receiver hears of an outage. Any thread may
/// construct, stop and destroy it; the sink is called on the ears' threads, one batch at a time for each target.
class Watcher {
 public:
  /// Starts to listen. Throws CredentialsError.
  Watcher(const Credentials& credentials, std::vector<WatchTarget> targets, const WatchSink& sink,
          const WatchOptions& options = {});
  ~Watcher();  // stops
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  /// Ends all ears at once; the sink is not called any more when this returns. Not to be called by the sink.
  void stop();
  /// Every target has been listed at least once, or was forbidden, where it is of one namespace.
  bool synced() const;

 private:
  class Ear;
  std::vector<std::unique_ptr<Ear>> ears_;
};

}  // namespace trainyard::kube
