#pragma once
// A watch's body: one JSON object a line, cut anywhere by the network.
// Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controller/kube/kube_api.h"

namespace trainyard::kube {

/// What some bytes of a watch's body brought.
struct WatchNews {
  std::vector<WatchEvent> events;
  std::string resource_version;  // of the last event or bookmark; empty: none came
  bool expired = false;          // 410: the history from our resource version on is gone: list again
  std::string error;             // the server's complaint, or a line that is none of a watch; the stream is of no more use
};

/// Keeps the incomplete last line until the rest comes. One thread.
class WatchLines {
 public:
  WatchNews feed(std::string_view bytes);

 private:
  std::string rest_;
};

}  // namespace trainyard::kube
