#pragma once
// One list of fields a struct: it drives the JSON codec, the defaults, and the test that compares a type with the CRD's schema.
//
//   struct Pack {
//     std::string level;
//     PackMode mode = PackMode::kPreferred;
//     template <class Self, class Visitor>
//     static void describe(Self& self, Visitor&& field) {
//       field("level", self.level);
//       field("mode", self.mode);
//     }
//   };
//
// A std::optional (or Rare) member may be left out; every other member has the C++ default when it is left out.
// Enums offer `constexpr auto enum_names(TheEnum)`, their spellings in the order of their values.

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include "crds/contract/rare.h"

namespace trainyard::contract {

using Json = nlohmann::json;

/// Something that is wrong with an input: where (`spec.workers.count`), and what to do about it.
struct Problem {
  std::string field;
  std::string message;
  bool operator==(const Problem&) const = default;
};

/// The lines `field: message`, in order, one a problem; what a user sees of a refused input.
std::string to_text(const std::vector<Problem>& problems);

/// A Kubernetes quantity, which people write as text or as a number: 500m, 1.5Gi, 8. What it amounts to depends on the resource
/// (controller/decide/quantity.h).
struct Quantity {
  std::string text = "0";
  bool operator==(const Quantity&) const = default;
};

namespace detail {
struct AnyVisitor {
  template <class Field>
  void operator()(const char*, Field&) const {}
};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsOptional<Rare<T>> : std::true_type {};
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsMap : std::false_type {};
template <class T>
struct IsMap<std::map<std::string, T>> : std::true_type {};
}  // namespace detail

template <class T>
concept Described = requires(T& value) {
  T::describe(value, detail::AnyVisitor{});
};
template <class T>
concept NamedEnum = std::is_enum_v<T> && requires(T value) {
  enum_names(value);
};
template <class T>
concept Optional = detail::IsOptional<T>::value;
template <class T>
concept Vector = detail::IsVector<T>::value;
template <class T>
concept StringMap = detail::IsMap<T>::value;

/// The enum value's spelling in the API.
template <NamedEnum T>
constexpr std::string_view name_of(T value) {
  return enum_names(value)[static_cast<std::size_t>(value)];
}
template <NamedEnum T>
constexpr std::optional<T> enum_from(std::string_view name) {
  const auto names = enum_names(T{});
  const auto at = std::find(names.begin(), names.end(), name);
  if (at == names.end()) return std::nullopt;
  return static_cast<T>(at - names.begin());
}

/// What `decode` does with a field that the type does not have: an older program reads a newer object, or a person mistyped.
enum class UnknownFields { kIgnore, kRefuse };

namespace detail {
inline std::string join(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

/// Where a value lies: a chain of names on the stack, which becomes text where there is a problem to tell. Decoding is most of what the
/// controller does with a watch, and nearly all of it has none.
class Path {
 public:
  explicit Path(std::string_view whole) : name_(whole) {}
  Path(const Path& parent, std::string_view name) : parent_(&parent), name_(name) {}
  Path(const Path& parent, std::size_t index) : parent_(&parent), index_(index), is_item_(true) {}
  std::string text() const;

 private:
  const Path* parent_ = nullptr;
  std::string_view name_;
  std::size_t index_ = 0;
  bool is_item_ = false;
};

void unknown_field(const std::string& path, const std::string& name, const std::vector<std::string>& known,
                   std::vector<Problem>& problems);
void wrong_type(const std::string& path, const char* wanted, const Json& found, std::vector<Problem>& problems);
void wrong_name(const std::string& path, const std::string& found, const std::vector<std::string>& known,
                std::vector<Problem>& problems);
/// A copy, or with a problem the default, where `found` nests deeper than kDeepestJson (parse_json.h): copying it would fill the stack.
void kept_as_it_came(const Path& path, const Json& found, Json& out, std::vector<Problem>& problems);
/// False, with a problem, where `found` is no whole number that fits [low, high].
bool whole_number(const Path& path, const Json& found, std::int64_t low, std::int64_t high, std::int64_t& out,
                  std::vector<Problem>& problems);
}  // namespace detail

/// JSON for a described value. Empty optionals, vectors and maps are left out, as the Kubernetes API does.
template <class T>
Json encode(const T& value) {
  if constexpr (Described<T>) {
    Json out = Json::object();
    T::describe(value, [&out](const char* name, const auto& field) {
      using Field = std::remove_cvref_t<decltype(field)>;
      if constexpr (Optional<Field>) {
        if (field) out[name] = encode(*field);
      } else if constexpr (Vector<Field> || StringMap<Field>) {
        if (!field.empty()) out[name] = encode(field);
      } else if constexpr (std::is_same_v<Field, Json>) {
        if (!field.is_null()) out[name] = field;
      } else {
        out[name] = encode(field);
      }
    });
    return out;
  } else if constexpr (NamedEnum<T>) {
    return std::string(name_of(value));
  } else if constexpr (std::is_same_v<T, Quantity>) {
    return value.text;
  } else if constexpr (Vector<T>) {
    Json out = Json::array();
    for (const auto& item : value) out.push_back(encode(item));
    return out;
  } else if constexpr (StringMap<T>) {
    Json out = Json::object();
    for (const auto& [key, item] : value) out[key] = encode(item);
    return out;
  } else {
    return Json(value);
  }
}

namespace detail {
template <class T>
void decode_at(T& out, const Json& json, const Path& path, UnknownFields unknown, std::vector<Problem>& problems) {
  if constexpr (std::is_same_v<T, Json>) {
    detail::kept_as_it_came(path, json, out, problems);
  } else if constexpr (Optional<T>) {
    if (json.is_null()) return;
    decode_at(out.emplace(), json, path, unknown, problems);
  } else if constexpr (Described<T>) {
    if (!json.is_object()) return wrong_type(path.text(), "an object", json, problems);
    std::vector<std::string> known;
    T::describe(out, [&](const char* name, auto& field) {
      if (unknown == UnknownFields::kRefuse) known.emplace_back(name);
      const auto found = json.find(name);
      if (found != json.end() && !found->is_null()) decode_at(field, *found, Path(path, name), unknown, problems);
    });
    if (unknown == UnknownFields::kRefuse) {
      for (const auto& item : json.items()) {
        if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
          unknown_field(path.text(), item.key(), known, problems);
        }
      }
    }
  } else if constexpr (NamedEnum<T>) {
    if (!json.is_string()) return wrong_type(path.text(), "a string", json, problems);
    if (const auto value = enum_from<T>(json.get_ref<const std::string&>())) {
      out = *value;
    } else {
      const auto names = enum_names(T{});
      wrong_name(path.text(), json.get<std::string>(), {names.begin(), names.end()}, problems);
    }
  } else if constexpr (Vector<T>) {
    if (!json.is_array()) return wrong_type(path.text(), "a list", json, problems);
    out.clear();
    for (std::size_t i = 0; i < json.size(); ++i) {
      decode_at(out.emplace_back(), json[i], Path(path, i), unknown, problems);
    }
  } else if constexpr (StringMap<T>) {
    if (!json.is_object()) return wrong_type(path.text(), "an object", json, problems);
    for (const auto& item : json.items()) {
      decode_at(out[item.key()], item.value(), Path(path, item.key()), unknown, problems);
    }
  } else if constexpr (std::is_same_v<T, Quantity>) {
    if (!json.is_string() && !json.is_number()) return wrong_type(path.text(), "a quantity, as 8 or 500m", json, problems);
    out.text = json.is_string() ? json.get<std::string>() : json.dump();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_boolean()) return wrong_type(path.text(), "true or false", json, problems);
    out = json.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    std::int64_t value = 0;
    if (whole_number(path, json, std::numeric_limits<T>::min(),
                     static_cast<std::int64_t>(std::min<std::uint64_t>(std::numeric_limits<T>::max(), INT64_MAX)), value,
                     problems)) {
      out = static_cast<T>(value);
    }
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!json.is_number()) return wrong_type(path.text(), "a number (written 5.0e-5, not 5e-5)", json, problems);
    out = json.get<T>();
  } else {
    static_assert(std::is_same_v<T, std::string>, "a field type that the codec does not know");
    if (!json.is_string()) return wrong_type(path.text(), "a string", json, problems);
    out = json.get_ref<const std::string&>();
  }
}
}  // namespace detail

/// Reads `json` into `out`; adds every problem found, with its path, and leaves the default where a value is wrong.
template <class T>
void decode_into(T& out, const Json& json, const std::string& path, UnknownFields unknown, std::vector<Problem>& problems) {
  detail::decode_at(out, json, detail::Path(path), unknown, problems);
}

template <class T>
struct Decoded {
  T value;
  std::vector<Problem> problems;  // empty: all of it was understood
};

template <class T>
Decoded<T> decode(const Json& json, const std::string& path = "", UnknownFields unknown = UnknownFields::kIgnore) {
  Decoded<T> out;
  decode_into(out.value, json, path, unknown, out.problems);
  return out;
}

}  // namespace trainyard::contract
