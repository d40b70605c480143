#include "controller/decide/devices.h"

#include <charconv>

namespace trainyard::decide {
namespace {

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

std::string label(const Node& node, const std::string& name) {
  const auto found = node.labels.find(name);
  return found == node.labels.end() ? "" : found->second;
}

}  // namespace

std::optional<std::int64_t> whole_number(std::string_view digits) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> device_memory(const Node& node, const std::string& resource) {
  const auto mebibytes = whole_number(label(node, resource + ".memory"));
  constexpr std::int64_t kMost = std::int64_t{1} << 40;  // so that a product of what somebody wrote there does not overflow
  if (!mebibytes || *mebibytes < 1 || *mebibytes > kMost) return std::nullopt;
  return *mebibytes * kMebibyte;
}

std::string device_name(const Node& node, const std::string& resource) { return label(node, resource + ".product"); }

bool shares_devices(const Node& node, const std::string& resource) {
  return whole_number(label(node, resource + ".replicas")).value_or(1) > 1;
}

}  // namespace trainyard::decide
