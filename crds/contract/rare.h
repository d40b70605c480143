#pragma once
// A std::optional for large parts that few objects have: it takes the room of a pointer where there is nothing. The statuses of thousands of
// jobs that wait, or have ended, are mostly of these.

#include <memory>
#include <optional>
#include <utility>

namespace trainyard::contract {

/// A value, copied and compared as one; has what std::optional has and is used here. To take the value of an empty one is a bug.
template <class T>
class Rare {
 public:
  using value_type = T;

  Rare() = default;
  // Implicit, as those of std::optional.
  Rare(std::nullopt_t) {}
  Rare(T value) : value_(std::make_unique<T>(std::move(value))) {}
  Rare(std::optional<T> value) {
    if (value) emplace(std::move(*value));
  }
  Rare(const Rare& other) : value_(other ? std::make_unique<T>(*other) : nullptr) {}
  Rare(Rare&& other) noexcept = default;
  Rare& operator=(const Rare& other) {
    if (this != &other) value_ = other ? std::make_unique<T>(*other) : nullptr;
    return *this;
  }
  Rare& operator=(Rare&& other) noexcept = default;
  ~Rare() = default;

  explicit operator bool() const { return value_ != nullptr; }
  [[nodiscard]] bool has_value() const { return value_ != nullptr; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return value_.get(); }
  const T* operator->() const { return value_.get(); }
  /// Throws std::bad_optional_access where there is none.
  [[nodiscard]] const T& value() const {
    if (!value_) throw std::bad_optional_access();
    return *value_;
  }

  template <class... Arguments>
  T& emplace(Arguments&&... arguments) {
    value_ = std::make_unique<T>(std::forward<Arguments>(arguments)...);
    return *value_;
  }
  void reset() { value_.reset(); }

  bool operator==(const Rare& other) const { return value_ && other ? *value_ == *other : has_value() == other.has_value(); }

 private:
  std::unique_ptr<T> value_;
};

}  // namespace trainyard::contract
