#include "controller/kube/managed_fields.h"

namespace trainyard::kube {
namespace {

/// After the list that begins at `at`; npos where it has no end.
std::size_t end_of_list(std::string_view json, std::size_t at) {
  int depth = 0;
  for (bool in_string = false; at < json.size(); ++at) {
    const char c = json[at];
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if ((c == ']' || c == '}') && --depth == 0) {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

}  // namespace

std::string without_managed_fields(std::string_view json) {
  // In a string the quotes would be escaped.
  constexpr std::string_view kKey = R"("managedFields":[)";
  const auto begin = json.find(kKey);
  if (begin == std::string_view::npos || json.find(R"("spec":)") < begin) return std::string(json);
  auto end = end_of_list(json, begin + kKey.size() - 1);
  if (end == std::string_view::npos) return std::string(json);
  std::string out(json.substr(0, begin));
  if (end < json.size() && json[end] == ',') {
    ++end;
  } else if (!out.empty() && out.back() == ',') {
    out.pop_back();
  }
  return out.append(json.substr(end));
}

}  // namespace trainyard::kube
