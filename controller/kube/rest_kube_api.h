#pragma once
// The real KubeApi.

#include <condition_variable>
#include <mutex>

#include "controller/kube/connection.h"
#include "controller/kube/credentials.h"
#include "controller/kube/kube_api.h"

namespace trainyard::kube {

struct RetryLimits {
  int retries = 4;
  std::chrono::milliseconds first_wait{100};  // doubles; after a connection that did not come about
  std::chrono::milliseconds longest_wait{
      5'000};  // a Retry-After beyond it goes to the caller, whose queue can wait without a thread
};

/// Any thread, several at a time. A request ends within its timeout, retries included.
class RestKubeApi : public KubeApi {
 public:
  /// Throws CredentialsError.
  explicit RestKubeApi(const Credentials& credentials, RetryLimits limits = {});

  /// Tries again only what cannot have happened: a connection that did not come about, and a 429, after its Retry-After.
  Response perform(const Request& request) override;

  /// What is under way, and what comes later, is answered at once with status 0.
  void stop();

 private:
  /// How long to wait before another try; nothing: it is the caller's.
  std::optional<std::chrono::milliseconds> wait_before_retry(const Response& response, int tries) const;
  /// False when stopped meanwhile.
  bool wait(std::chrono::milliseconds time);

  const RetryLimits limits_;
  Connection connection_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
};

}  // namespace trainyard::kube
