#include "worker/checkpoint/coded.h"

#include <gtest/gtest.h>

#include "tests/worker/plan/dynamic_map.h"

namespace trainyard::checkpoint {
namespace {

constexpr std::int64_t kRows = 4, kColumns = 600, kSegment = 300;  // 2 x 2 blocks a row

TensorShard shard(at::ScalarType type) {
  TensorShard out{.name = "optimizer.exp_avg.w",
                  .local = at::zeros({2, kSegment}, type),
                  .global_shape = {kRows, kColumns},
                  .offset = {2, kSegment},
                  .writes = false};
  out.codes = Codes{.is_signed = true, .segment = kSegment, .scales_name = "optimizer.exp_avg_absmax.w"};
  if (type == at::kByte) out.codes->scales = at::zeros({2, 2});
  return out;
}

Manifest manifest_with(const std::string& dtype) {
  Manifest manifest;
  manifest.tensors["optimizer.exp_avg.w"].dtype = dtype;
  return manifest;
}

TEST(CodedTensors, LieInFilesWithTheirScalesBesideThem) {
  const auto in_files = with_scales({shard(at::kByte), shard(at::kFloat)});
  ASSERT_EQ(in_files.size(), 3U);
  EXPECT_EQ(in_files[0].name, "optimizer.exp_avg.w");
  EXPECT_EQ(in_files[1].name, "optimizer.exp_avg_absmax.w");
  EXPECT_EQ(in_files[1].global_shape, (std::vector<std::int64_t>{kRows, 4}));
  EXPECT_EQ(box_of(in_files[1]), (Box{.offset = {2, 2}, .shape = {2, 2}}));
  EXPECT_FALSE(in_files[1].writes);
}

TEST(CodedTensors, AreReadAsTheyWereWritten) {
  for (const auto& [dtype, type] : {std::pair{"F32", at::kFloat}, {"BF16", at::kBFloat16}, {"U8", at::kByte}}) {
    for (const auto kept : {at::kFloat, at::kBFloat16, at::kByte}) {
      const auto here = shard(kept);
      const auto stored = as_stored(manifest_with(dtype), {here})[0];
      EXPECT_EQ(stored.local.scalar_type(), type);
      EXPECT_EQ(stored.local.is_same(here.local), type == kept);
      EXPECT_EQ(stored.codes->scales.defined(), type == at::kByte);
    }
  }
  const auto counter =
      TensorShard{.name = "optimizer.exp_avg.w", .local = at::zeros({}, at::kLong), .global_shape = {}, .offset = {}};
  EXPECT_TRUE(as_stored(manifest_with("F32"), {counter})[0].local.is_same(counter.local))
      << "whoever reads it finds that it differs";
}

TEST(CodedTensors, AreCodedAndDecodedWhereTheyAreKeptOtherwise) {
  const auto map = test::dynamic_map(true);
  const at::Tensor numbers = at::arange(2 * kSegment, at::kFloat).mul(0.37).sin().view({2, kSegment});
  auto in_fp32 = shard(at::kFloat), in_codes = shard(at::kByte), back = shard(at::kFloat), in_bf16 = shard(at::kBFloat16);
  in_fp32.local.copy_(numbers);
  take(in_fp32, in_codes);
  const auto wanted = test::coded(map, {numbers.const_data_ptr<float>(), 2 * static_cast<std::size_t>(kSegment)}, kSegment);
  EXPECT_TRUE(std::equal(wanted.codes.begin(), wanted.codes.end(), in_codes.local.const_data_ptr<std::uint8_t>()));
  EXPECT_TRUE(std::equal(wanted.scales.begin(), wanted.scales.end(), in_codes.codes->scales.const_data_ptr<float>()));
  take(in_codes, back);
  EXPECT_LE((back.local - numbers).abs().max().item<double>(), 0.0071);
  EXPECT_EQ(back.local[1][256].item<float>(), map[wanted.codes[556]] * wanted.scales[3]);
  take(in_codes, in_bf16);
  EXPECT_TRUE(at::equal(in_bf16.local, back.local.to(at::kBFloat16)));
}

}  // namespace
}  // namespace trainyard::checkpoint
