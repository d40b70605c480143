#pragma once
// Changing objects that nobody has checked, such as a pod template. For reading them see json_lookup.h.

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "controller/decide/json_lookup.h"

namespace trainyard::decide {

inline contract::Json& as_object(contract::Json& json) {
  if (!json.is_object()) json = contract::Json::object();
  return json;
}
/// The field, made an object or a list where it is none, as is what it is a field of.
inline contract::Json& object_at(contract::Json& parent, const char* name) { return as_object(as_object(parent)[name]); }
inline contract::Json& list_at(contract::Json& parent, const char* name) {
  contract::Json& value = as_object(parent)[name];
  if (!value.is_array()) value = contract::Json::array();
  return value;
}
inline void set_if_silent(contract::Json& object, const char* name, contract::Json value) {
  if (member(object, name).is_null()) as_object(object)[name] = std::move(value);
}
/// The first item whose `field` has the value; nothing where none has.
inline contract::Json* find_by(contract::Json& list, const char* field, std::string_view value) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const contract::Json& item) { return member(item, field) == value; });
  return found == list.end() ? nullptr : &*found;
}
/// Adds the item, or puts it in the place of the one with the same `field`.
inline void put_by(contract::Json& list, const char* field, contract::Json item) {
  if (contract::Json* old = find_by(list, field, item.at(field).get_ref<const std::string&>())) {
    *old = std::move(item);
  } else {
    list.push_back(std::move(item));
  }
}

}  // namespace trainyard::decide
