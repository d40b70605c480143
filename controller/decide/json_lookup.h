#pragma once
// Reading objects that nobody has checked, such as a pod template: what is missing or of another type reads as null or empty.

#include <string>

#include "crds/contract/fields.h"

namespace trainyard::decide {

inline const contract::Json& member(const contract::Json& json, const char* name) {
  static const contract::Json kNull;
  if (!json.is_object()) return kNull;
  const auto found = json.find(name);
  return found == json.end() ? kNull : *found;
}

inline std::string text_of(const contract::Json& json, const char* name) {
  const auto& value = member(json, name);
  return value.is_string() ? value.get<std::string>() : "";
}

}  // namespace trainyard::decide
