#include "worker/schedule/gradient_sum.h"

#include <cmath>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"

namespace trainyard::schedule {
namespace {

using contract::Reduction;

/// Numbers of very different size, whose FP32 sum depends on the order.
Summand summand(std::int32_t index) {
  const float scale = std::pow(10.0f, static_cast<float>(index * 7 % 11) - 5);
  return {at::arange(1, 8, at::kFloat).mul(scale).sin_().mul_(scale), at::full({2, 3}, scale * 0.1f), at::full({}, scale)};
}

Summand sum_of(Reduction reduction, std::int32_t first, std::int32_t count) {
  GradientSum sum(reduction);
  for (std::int32_t i = first; i < first + count; ++i) sum.add(summand(i));
  return sum.take();
}

/// Each of `ranks` sums its contiguous block of `total` and reduces over all.
Summand reduced(Reduction reduction, std::int32_t ranks, std::int32_t total, std::int64_t chunk) {
  Summand out;
  mesh::run_ranks(contract::Layout({.dp = ranks}, ranks), [&](mesh::Mesh& mesh) {
    Summand mine = sum_of(reduction, mesh.rank() * total / ranks, total / ranks);
    reduce_over(mesh.data(), reduction, mine, chunk);
    if (mesh.rank() == ranks - 1) out = mine;
  });
  return out;
}

TEST(Canonical, IsTheSameBitsHoweverTheMicroBatchesAreSpread) {
  const Summand alone = sum_of(Reduction::kCanonical, 0, 16);
  for (const std::int32_t ranks : {1, 2, 4, 8, 16}) {
    for (const std::int64_t chunk : {3, 7, 100}) {
      const Summand spread = reduced(Reduction::kCanonical, ranks, 16, chunk);
      for (std::size_t i = 0; i < alone.size(); ++i)
        EXPECT_TRUE(at::equal(spread[i], alone[i])) << ranks << " ranks, tensor " << i;
    }
  }
}

TEST(Canonical, IsNotTheSumInOrder) {
  EXPECT_FALSE(at::equal(sum_of(Reduction::kCanonical, 0, 16)[0], sum_of(Reduction::kFast, 0, 16)[0]));
}

TEST(Fast, AddsUpAllMicroBatchesOfAllRanks) {
  const Summand alone = sum_of(Reduction::kFast, 0, 12);
  const Summand spread = reduced(Reduction::kFast, 3, 12, 100);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(spread[i].sizes(), alone[i].sizes());
    EXPECT_TRUE(at::allclose(spread[i], alone[i], 1e-5));
  }
}

TEST(GradientSum, OfOneMicroBatchIsItself) {
  for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
    const Summand one = sum_of(reduction, 5, 1);
    for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], summand(5)[i]));
  }
}

TEST(GradientSum, OfBf16IsTheSumOfTheSameNumbersInFp32) {
  for (const Reduction reduction : {Reduction::kFast, Reduction::kCanonical}) {
    for (const int count : {1, 2, 3, 4, 7}) {
      GradientSum mixed(reduction), full(reduction);
      for (int i = 0; i < count; ++i) {
        const at::Tensor gradient = summand(i)[0].to(at::kBFloat16);
        mixed.add({gradient.clone()});
        full.add({gradient.to(at::kFloat)});
      }
      const at::Tensor found = mixed.take()[0];
      EXPECT_EQ(found.scalar_type(), at::kFloat);
      EXPECT_TRUE(at::equal(found, full.take()[0])) << count;
    }
  }
}

/// More numbers than a thread of a CPU adds at a time, in rows that go into that number and are left over, and as one row.
TEST(GradientSum, OfBf16IsTheSameWhereATensorIsAddedInParts) {
  at::set_num_threads(1);
  const at::Tensor numbers = at::arange(80'000, at::kFloat).mul(0.37).sin().to(at::kBFloat16);
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{5, 16'000}, {80'000}, {2, 40'000}}) {
    GradientSum mixed(Reduction::kFast);
    for (int i = 0; i < 3; ++i) mixed.add({numbers.view(shape).clone()});
    const at::Tensor in_fp32 = numbers.view(shape).to(at::kFloat);
    EXPECT_TRUE(at::equal(mixed.take()[0], in_fp32 + in_fp32 + in_fp32)) << shape.front() << " rows";
  }
}

}  // namespace
}  // namespace trainyard::schedule
