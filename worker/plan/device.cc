#include "worker/plan/device.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace trainyard::plan {
namespace {

/// By words that the model's name has; the first that it has, so the particular ones come before the general one.
constexpr auto kDevices = std::to_array<std::pair<std::string_view, Device>>({
    {" A100 SXM", {312e12, 0, 300e9, 32e9, 25e9}},
    {" A100", {312e12, 0, 0, 32e9, 0}},
    {" H100 PCIe", {756e12, 1513e12, 0, 64e9, 0}},
    {" H100 NVL", {835e12, 1671e12, 0, 64e9, 0}},
    {" H100", {989e12, 1979e12, 450e9, 64e9, 50e9, true}},
    {" H200 NVL", {835e12, 1671e12, 0, 64e9, 0}},
    {" H200", {989e12, 1979e12, 450e9, 64e9, 50e9, true}},
    {" GH200", {989e12, 1979e12, 0, 450e9, 0}},
    {" B200", {2250e12, 4500e12, 900e9, 64e9, 50e9, true}},
});

/// Whether `model` stands in `words`, not only as the beginning of a longer number ("A1000").
bool has(const std::string& words, std::string_view model) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto at = words.find(model);
  if (at == std::string::npos) return false;
  const std::size_t end = at + model.size();
  return end == words.size() || !is_digit(model.back()) || !is_digit(words[end]);
}

}  // namespace

std::optional<Device> find_device(std::string_view name) {
  std::string words = " ";  // before the first word, too
  words += name;
  std::replace(words.begin(), words.end(), '-', ' ');
  for (const char* part : {" MIG ", " SHARED"}) {
    if (words.find(part) != std::string::npos) return std::nullopt;
  }
  for (const auto& [model, device] : kDevices) {
    if (has(words, model)) return device;
  }
  return std::nullopt;
}

std::optional<double> peak_flops(std::string_view name, contract::ComputePrecision compute) {
  const auto device = find_device(name);
  if (!device || compute == contract::ComputePrecision::kFP32) return std::nullopt;
  const double peak = compute == contract::ComputePrecision::kFP8 ? device->fp8_flops : device->half_flops;
  return peak > 0 ? std::optional(peak) : std::nullopt;
}

}  // namespace trainyard::plan
