#include "worker/checkpoint/agreement.h"

#include <cstring>

namespace trainyard::checkpoint {

std::vector<std::int64_t> Agreement::reduce(const std::vector<std::int64_t>& values, mesh::ReduceOp op) {
  if (values.empty()) return {};
  at::Tensor tensor = at::tensor(values, at::kLong).to(device_);
  group_.all_reduce(tensor, op);
  tensor = tensor.cpu();
  const auto* first = tensor.const_data_ptr<std::int64_t>();
  return {first, first + values.size()};
}

std::vector<std::int64_t> Agreement::highest(const std::vector<std::int64_t>& values) {
  return reduce(values, mesh::ReduceOp::kMax);
}

std::vector<std::int64_t> Agreement::sum(const std::vector<std::int64_t>& values) { return reduce(values, mesh::ReduceOp::kSum); }

std::string Agreement::text_of(std::int32_t from, const std::string& text) {
  at::Tensor length = at::tensor(std::vector<std::int64_t>{static_cast<std::int64_t>(text.size())}, at::kLong).to(device_);
  group_.broadcast(length, from);
  at::Tensor bytes = at::zeros({length.item<std::int64_t>()}, at::kByte);
  if (bytes.numel() == 0) return {};
  if (group_.rank() == from) std::memcpy(bytes.data_ptr(), text.data(), text.size());
  bytes = bytes.to(device_);
  group_.broadcast(bytes, from);
  bytes = bytes.cpu();
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

std::optional<std::string> Agreement::first_problem(const std::string& mine) {
  const std::int64_t found = highest({mine.empty() ? 0 : group_.size() - group_.rank()})[0];
  if (found == 0) return std::nullopt;
  return text_of(static_cast<std::int32_t>(group_.size() - found), mine);
}

Problem Agreement::gravest(const Problem& mine) {
  const auto trouble = static_cast<Trouble>(highest({static_cast<std::int64_t>(mine.trouble)})[0]);
  if (trouble == Trouble::kNone) return {};
  return {trouble, first_problem(mine.trouble == trouble ? mine.text : std::string()).value_or("")};
}

}  // namespace trainyard::checkpoint
