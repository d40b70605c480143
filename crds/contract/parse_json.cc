#include "crds/contract/parse_json.h"

#include <algorithm>

namespace trainyard::contract {
namespace {

/// Of brackets, whether they belong together or not.
bool opens_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

bool is_deeper(const Json& json, int levels) {
  if (!json.is_structured()) return false;
  return levels == 0 || std::any_of(json.begin(), json.end(), [levels](const Json& item) { return is_deeper(item, levels - 1); });
}

}  // namespace

Json parse_json(std::string_view text) {
  if (opens_too_deep(text)) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

bool nests_too_deep(const Json& json) { return is_deeper(json, kDeepestJson); }

}  // namespace trainyard::contract
