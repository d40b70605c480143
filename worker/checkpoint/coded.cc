#include "worker/checkpoint/coded.h"

#include <span>

#include "worker/checkpoint/safetensors.h"
#include "worker/plan/moments.h"

namespace trainyard::checkpoint {
namespace {

bool is_float(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

plan::Box scales_box(const TensorShard& shard) {
  return plan::scales_of({.offsets = shard.offset, .sizes = shard.local.sizes().vec()}, shard.codes->segment);
}

TensorShard scales_of(const TensorShard& shard) {
  const auto& codes = *shard.codes;
  return {.name = codes.scales_name,
          .local = codes.scales,
          .global_shape = plan::scales_of({.offsets = {0, 0}, .sizes = shard.global_shape}, codes.segment).sizes,
          .offset = scales_box(shard).offsets,
          .writes = shard.writes};
}

template <class T>
std::span<T> all_of(const at::Tensor& tensor) {
  return {tensor.data_ptr<T>(), static_cast<std::size_t>(tensor.numel())};
}

at::Tensor decoded(const TensorShard& shard) {
  const at::Tensor numbers = at::empty(shard.local.sizes(), at::kFloat);
  plan::decode(plan::moment_table(shard.codes->is_signed), shard.codes->segment, all_of<std::uint8_t>(shard.local),
               all_of<float>(shard.codes->scales), all_of<float>(numbers));
  return numbers;
}

void encode_into(const TensorShard& kept, const at::Tensor& numbers) {
  const at::Tensor in_fp32 = numbers.to(at::kFloat);
  const at::Tensor codes = at::empty(kept.local.sizes(), at::kByte), scales = at::empty(kept.codes->scales.sizes(), at::kFloat);
  plan::encode(plan::moment_table(kept.codes->is_signed), kept.codes->segment, all_of<float>(in_fp32),
               all_of<std::uint8_t>(codes), all_of<float>(scales));
  at::Tensor local = kept.local, local_scales = kept.codes->scales;
  local.copy_(codes);
  local_scales.copy_(scales);
}

}  // namespace

std::vector<TensorShard> with_scales(const std::vector<TensorShard>& shards) {
  std::vector<TensorShard> out;
  for (const auto& shard : shards) {
    out.push_back(shard);
    if (shard.codes && shard.codes->scales.defined()) out.push_back(scales_of(shard));
  }
  return out;
}

std::vector<TensorShard> as_stored(const Manifest& manifest, const std::vector<TensorShard>& shards) {
  std::vector<TensorShard> stored = shards;
  for (auto& shard : stored) {
    const auto entry = manifest.tensors.find(shard.name);
    if (entry == manifest.tensors.end()) continue;
    const auto type = dtype_from(entry->second.dtype), kept = shard.local.scalar_type();
    const bool can = is_float(type) || (type == at::kByte && shard.codes),
               has = is_float(kept) || (kept == at::kByte && shard.codes);
    if (type == kept || !can || !has) continue;
    shard.local = at::empty(shard.local.sizes(), at::TensorOptions().dtype(type));
    if (!shard.codes) continue;
    shard.codes->scales = type == at::kByte ? at::empty(scales_box(shard).sizes, at::kFloat) : at::Tensor();
  }
  return stored;
}

void take(const TensorShard& stored, const TensorShard& kept) {
  if (stored.local.is_same(kept.local)) return;
  if (kept.local.scalar_type() == at::kByte) return encode_into(kept, stored.local);
  at::Tensor local = kept.local.detach();
  local.copy_(stored.local.scalar_type() == at::kByte ? decoded(stored) : stored.local);
}

}  // namespace trainyard::checkpoint
