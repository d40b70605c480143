#pragma once
// Reading objects that nobody has checked.

#include <string>

#include "controller/kube/kube_api.h"

namespace trainyard::kube {

/// Empty where there is none, or no text.
inline std::string text_at(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

}  // namespace trainyard::kube
