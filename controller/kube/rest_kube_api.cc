#include "controller/kube/rest_kube_api.h"

namespace trainyard::kube {
namespace {

constexpr std::chrono::seconds kIdleTimeout{60};  // beyond every request's own

using Clock = std::chrono::steady_clock;

std::chrono::milliseconds until(Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
}

}  // namespace

RestKubeApi::RestKubeApi(const Credentials& credentials, RetryLimits limits)
    : limits_(limits), connection_(credentials, kIdleTimeout) {}

Response RestKubeApi::perform(const Request& request) {
  const auto end = Clock::now() + request.timeout;
  for (int tries = 1;; ++tries) {
    Response response = connection_.send(request, until(end));
    const auto pause = request.patient ? wait_before_retry(response, tries) : std::nullopt;
    if (!pause || *pause >= until(end) || !wait(*pause)) return response;
  }
}

std::optional<std::chrono::milliseconds> RestKubeApi::wait_before_retry(const Response& response, int tries) const {
  if (tries > limits_.retries) return std::nullopt;
  if (response.not_sent) return limits_.first_wait * (1 << (tries - 1));
  if (response.status == 429) {
    const std::chrono::milliseconds asked = response.retry_after.value_or(std::chrono::seconds(1));
    if (asked <= limits_.longest_wait) return asked;
  }
  return std::nullopt;
}

bool RestKubeApi::wait(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stopped_; });
}

void RestKubeApi::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  connection_.stop();
}

}  // namespace trainyard::kube
