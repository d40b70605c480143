#include "controller/kube/answer.h"

#include <algorithm>
#include <cctype>

#include "controller/kube/json_text.h"
#include "controller/kube/managed_fields.h"

namespace trainyard::kube {
namespace {

constexpr std::size_t kMaxMessageBytes = 400;  // of a page that is not the API server's

/// Everything but RFC 3986's unreserved characters is encoded.
std::string percent_encoded(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += kDigits[static_cast<unsigned char>(c) >> 4];
      out += kDigits[static_cast<unsigned char>(c) & 15];
    }
  }
  return out;
}

}  // namespace

Response decode_answer(int status, std::string_view body, std::optional<std::chrono::seconds> retry_after) {
  Response response;
  response.status = status;
  response.retry_after = retry_after;
  if (!body.empty()) response.body = Json::parse(without_managed_fields(body), nullptr, /*allow_exceptions=*/false);
  const bool is_json = !response.body.is_discarded();
  if (!is_json) response.body = std::string(body.substr(0, std::min(body.size(), kMaxMessageBytes)));
  if (response.ok()) return response;
  if (response.body.is_object() && text_at(response.body, "kind") == "Status") {
    response.reason = text_at(response.body, "reason");
    response.message = text_at(response.body, "message");
  } else if (response.body.is_string()) {
    response.message = response.body.get<std::string>();
  }
  if (response.message.empty()) response.message = "HTTP status " + std::to_string(status) + " without a message";
  return response;
}

const char* name_of(Method method) {
  switch (method) {
    case Method::kGet: return "GET";
    case Method::kPost: return "POST";
    case Method::kPut: return "PUT";
    case Method::kPatch: return "PATCH";
    case Method::kDelete: return "DELETE";
  }
  return "GET";
}

std::string target_of(const Request& request) {
  std::string target = request.path;
  char separator = '?';
  for (const auto& [key, value] : request.query) {
    target += separator + percent_encoded(key) + "=" + percent_encoded(value);
    separator = '&';
  }
  return target;
}

}  // namespace trainyard::kube
