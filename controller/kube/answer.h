#pragma once
// What an HTTP answer of the API server means.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "controller/kube/kube_api.h"

namespace trainyard::kube {

/// The Response of an answer: its JSON, or its text as a JSON string where it is none (/readyz, a proxy's page). For an error, reason and
/// message come from the metav1.Status in the body; without one, the message is what there is of the body.
Response decode_answer(int status, std::string_view body, std::optional<std::chrono::seconds> retry_after = std::nullopt);

/// GET, POST, …
const char* name_of(Method method);

/// "path?a=1&b=2", percent-encoded.
std::string target_of(const Request& request);

}  // namespace trainyard::kube
