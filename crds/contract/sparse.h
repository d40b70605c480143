#pragma once
// JSON that says no more than it has to: what has its default is left out, at every depth. A release that adds a field with a default writes
// what releases before it wrote of whoever does not use the field. So names that are made of it (spec hashes) outlive an upgrade, and a
// program that refuses fields that it does not know (UnknownFields::kRefuse) refuses no more than what is asked of it. Both take that no default
// ever changes within a version of the API, which Kubernetes' API conventions ask for anyway ("Changing the API", backward compatibility).

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "crds/contract/fields.h"

namespace trainyard::contract {

/// Failure::reason of a worker that does not know a field, or a value, of its assignment's spec. Assignments are told sparsely, and an agent
/// takes none of which it does not know every word: one of an older release would otherwise train without what the user asked for. Where it is
/// the spec that it does not know, it takes the generation, starts no rank, and fails.
inline constexpr const char* kWorkerOutdated = "WorkerOutdated";

/// As encode(), and decode() reads it back equal.
template <class T>
Json encode_sparse(const T& value) {
  if constexpr (Described<T>) {
    static const T kDefault{};
    std::vector<std::pair<std::string_view, const void*>> defaults;  // by name, since a type may describe less of some values
    T::describe(kDefault, [&defaults](const char* name, const auto& field) { defaults.emplace_back(name, &field); });
    Json out = Json::object();
    T::describe(value, [&](const char* name, const auto& field) {
      using Field = std::remove_cvref_t<decltype(field)>;
      const auto found = std::find_if(defaults.begin(), defaults.end(), [name](const auto& item) { return item.first == name; });
      if (found != defaults.end() && field == *static_cast<const Field*>(found->second)) return;
      out[name] = encode_sparse(field);
    });
    return out;
  } else if constexpr (Optional<T>) {
    return value ? encode_sparse(*value) : Json();
  } else if constexpr (Vector<T>) {
    Json out = Json::array();
    for (const auto& item : value) out.push_back(encode_sparse(item));
    return out;
  } else if constexpr (StringMap<T>) {
    Json out = Json::object();
    for (const auto& [key, item] : value) out[key] = encode_sparse(item);
    return out;
  } else {
    return encode(value);
  }
}

}  // namespace trainyard::contract
