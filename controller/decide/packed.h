#pragma once
// Described values (crds/contract/fields.h) as few bytes, for this process alone: a field is its number and its value, and what has its default
// takes none. To be kept, not sent: bytes of another version, or from outside, mean nothing here.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "crds/contract/fields.h"
#include "crds/contract/time.h"

namespace trainyard::decide {

/// Writes values one after the other.
class Packer {
 public:
  template <class T>
  void add(const T& value) {
    if constexpr (contract::Described<T>) {
      add_fields(value);
    } else if constexpr (contract::Optional<T>) {
      add(value.has_value());
      if (value) add(*value);
    } else if constexpr (contract::Vector<T>) {
      add_number(value.size());
      for (const auto& item : value) add(item);
    } else if constexpr (contract::StringMap<T>) {
      add_number(value.size());
      for (const auto& [key, item] : value) {
        add(key);
        add(item);
      }
    } else if constexpr (std::is_same_v<T, std::string>) {
      add_number(value.size());
      bytes_ += value;
    } else if constexpr (std::is_same_v<T, contract::Quantity>) {
      add(value.text);
    } else if constexpr (std::is_same_v<T, contract::Problem>) {
      add(value.field);
      add(value.message);
    } else if constexpr (std::is_same_v<T, contract::Json>) {
      std::string cbor;
      contract::Json::to_cbor(value, cbor);
      add(cbor);
    } else if constexpr (std::is_same_v<T, contract::Time>) {
      add(static_cast<std::int64_t>(value.time_since_epoch().count()));
    } else if constexpr (std::is_same_v<T, double>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    } else {
      static_assert(std::is_integral_v<T> || std::is_enum_v<T>, "a type that can't be packed");
      const auto number = static_cast<std::int64_t>(value);  // small ones of either sign in few bytes
      add_number((static_cast<std::uint64_t>(number) << 1U) ^ (number < 0 ? ~std::uint64_t{0} : 0));
    }
  }
  /// All of them, in no more room than they take.
  std::string take() {
    bytes_.shrink_to_fit();
    return std::move(bytes_);
  }

 private:
  template <class T>
  void add_fields(const T& value) {
    static const T kDefault{};
    static const std::vector<const void*> kDefaults = [] {
      std::vector<const void*> out;
      T::describe(kDefault, [&out](const char*, const auto& field) { out.push_back(&field); });
      return out;
    }();
    std::size_t number = 0;
    T::describe(value, [&](const char*, const auto& field) {
      if (field == *static_cast<decltype(&field)>(kDefaults[number++])) return;
      add_number(number);
      add(field);
    });
    add_number(0);
  }
  /// Seven bits a byte, the lowest first; the highest bit says that there are more.
  void add_number(std::uint64_t number) {
    for (; number > 127; number >>= 7U) bytes_ += static_cast<char>(128U | (number & 127U));
    bytes_ += static_cast<char>(number);
  }

  std::string bytes_;
};

/// Reads what a Packer wrote, in the same order.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : left_(bytes) {}

  /// Over a value as it is by default.
  template <class T>
  void get(T& out) {
    if constexpr (contract::Described<T>) {
      std::uint64_t number = 0, next = get_number();
      T::describe(out, [&](const char*, auto& field) {
        if (++number != next) return;
        get(field);
        next = get_number();
      });
    } else if constexpr (contract::Optional<T>) {
      bool is_there = false;
      get(is_there);
      if (is_there) get(out.emplace());
    } else if constexpr (contract::Vector<T>) {
      out.resize(get_number());
      for (auto& item : out) get(item);
    } else if constexpr (contract::StringMap<T>) {
      for (std::uint64_t left = get_number(); left > 0; --left) {
        std::string key;
        get(key);
        get(out[key]);
      }
    } else if constexpr (std::is_same_v<T, std::string>) {
      out = text();
    } else if constexpr (std::is_same_v<T, contract::Quantity>) {
      get(out.text);
    } else if constexpr (std::is_same_v<T, contract::Problem>) {
      get(out.field);
      get(out.message);
    } else if constexpr (std::is_same_v<T, contract::Json>) {
      out = contract::Json::from_cbor(text());
    } else if constexpr (std::is_same_v<T, contract::Time>) {
      std::int64_t count = 0;
      get(count);
      out = contract::Time(contract::Time::duration(count));
    } else if constexpr (std::is_same_v<T, double>) {
      std::memcpy(&out, take(sizeof out).data(), sizeof out);
    } else {
      const std::uint64_t number = get_number();
      out = static_cast<T>(static_cast<std::int64_t>((number >> 1U) ^ (~(number & 1U) + 1U)));
    }
  }

 private:
  std::string_view take(std::size_t size) {
    const std::string_view out = left_.substr(0, size);
    left_.remove_prefix(out.size());
    return out;
  }
  std::string_view text() { return take(get_number()); }
  std::uint64_t get_number() {
    std::uint64_t out = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      out |= std::uint64_t{byte & 127U} << shift;
      if (byte < 128) return out;
    }
  }

  std::string_view left_;
};

}  // namespace trainyard::decide
