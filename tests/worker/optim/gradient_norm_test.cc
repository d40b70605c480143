#include "worker/optim/gradient_norm.h"

#include <cmath>
#include <limits>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/gloo_ranks.h"
#include "tests/worker/mesh/ranks.h"
#include "worker/plan/stages.h"

namespace trainyard::optim {
namespace {

plan::Parameter parameter(std::vector<std::int64_t> shape) { return {.name = "w", .shape = std::move(shape), .stages = {0}}; }

at::Tensor wave(const std::vector<std::int64_t>& shape) {
  return at::arange(plan::num_elements(shape), at::kFloat).mul(0.37).sin().view(shape);
}

/// Tensor operations, a second way to the definition of a halving sum of a power of two of numbers.
double halved_by_operations(at::Tensor values) {
  while (values.numel() > 1) {
    const std::int64_t half = values.numel() / 2;
    values = values.narrow(0, 0, half) + values.narrow(0, half, half);
  }
  return values.item<double>();
}

plan::Box whole(const plan::Parameter& p) { return plan::box_of(p, 1, 0); }

TEST(BlockSums, AreTheHalvingSumsOfFourThousandNinetySixSquaresEach) {
  for (const std::int64_t elements : {1, 5, 64, 100, 4095, 4096, 4097, 10'000}) {
    const auto p = parameter({elements});
    const at::Tensor gradient = wave(p.shape);
    const at::Tensor sums = block_sums(gradient, p, whole(p));
    ASSERT_EQ(sums.numel(), (elements + 4095) / 4096);
    for (std::int64_t i = 0; i < sums.numel(); ++i) {
      const std::int64_t count = std::min<std::int64_t>(4096, elements - i * 4096);
      const at::Tensor squares = gradient.narrow(0, i * 4096, count).to(at::kDouble).square();
      const at::Tensor padded = at::constant_pad_nd(squares, {0, 4096 - count});
      EXPECT_EQ(sums[i].item<double>(), halved_by_operations(padded)) << elements << ", block " << i;
      EXPECT_NEAR(sums[i].item<double>(), squares.sum().item<double>(), 1e-9);
    }
  }
}

TEST(BlockSums, OfAPartAreThoseOfTheWholeTensorWithZerosElsewhere) {
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{96, 200}, {64, 4096}, {24, 1000}, {8, 12'288}, {9000}}) {
    for (std::int64_t dim = 0; dim < static_cast<std::int64_t>(shape.size()); ++dim) {
      auto p = parameter(shape);
      p.split_dim = dim;
      for (std::int32_t rank = 0; rank < 4; ++rank) {
        const auto box = plan::box_of(p, 4, rank);
        const auto cut = static_cast<std::size_t>(dim);
        const at::Tensor part = wave(shape).narrow(dim, box.offsets[cut], box.sizes[cut]);
        const at::Tensor spread = at::zeros(shape);
        spread.narrow(dim, box.offsets[cut], box.sizes[cut]).copy_(part);
        EXPECT_TRUE(at::equal(block_sums(part, p, box), block_sums(spread, p, whole(p))))
            << rank << ", " << dim << ", " << shape[0];
      }
    }
  }
}

TEST(BlockSums, OfPartsAddUpToThoseOfTheWhole) {
  for (const std::int64_t dim : {0, 1}) {
    auto p = parameter({96, 200});
    p.split_dim = dim;
    const at::Tensor gradient = wave(p.shape), sums = block_sums(gradient, p, whole(p));
    at::Tensor added = at::zeros_like(sums);
    for (std::int32_t rank = 0; rank < 4; ++rank) {
      const auto box = plan::box_of(p, 4, rank);
      const auto& size = box.sizes[static_cast<std::size_t>(dim)];
      added += block_sums(gradient.narrow(dim, rank * size, size), p, box);
    }
    EXPECT_TRUE(at::allclose(added, sums, 1e-14, 0)) << "dimension " << dim;
  }
}

TEST(BlockSums, AreTheSameBitsWhereCoresShareThem) {
  const auto p = parameter({300, 333});
  const at::Tensor gradient = wave(p.shape);
  const at::Tensor alone = block_sums(gradient, p, whole(p));
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    Cores cores;
    at::set_num_threads(1);
    EXPECT_TRUE(at::equal(block_sums(gradient, p, whole(p), &cores), alone)) << count;
  }
}

TEST(HalvingSum, AddsTheSecondHalfToTheFirst) {
  const double huge = 0x1p60;
  EXPECT_EQ(halving_sum(at::tensor({huge, 1.0, -huge, 1.0}, at::kDouble)).item<double>(), 2.0);  // (huge − huge) + (1 + 1)
  EXPECT_EQ(halving_sum(at::tensor({1.0, 2.0, 4.0}, at::kDouble)).item<double>(), 7.0);
  EXPECT_EQ(halving_sum(at::tensor({3.0}, at::kDouble)).item<double>(), 3.0);
  for (const std::int64_t count : {2, 7, 16, 100}) {
    const at::Tensor values = wave({count}).to(at::kDouble);
    EXPECT_EQ(halving_sum(values).item<double>(), halved_by_operations(at::constant_pad_nd(values, {0, 128 - count}))) << count;
  }
}

contract::ModelSize small_model(bool tied) {
  return {.layers = 4,
          .hiddenSize = 32,
          .heads = 4,
          .keyValueHeads = 4,
          .feedForwardSize = 48,
          .vocabularySize = 300,
          .tieEmbeddings = tied};
}

double norm_in(contract::Degrees degrees, bool tied) {
  const contract::Layout layout(degrees, degrees.pp * degrees.dp * degrees.tp);
  double out = 0;
  mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
    const auto all = plan::llama_parameters(small_model(tied), plan::split_layers(small_model(tied), degrees.pp));
    std::vector<NormPart> parts;
    std::vector<at::Tensor> gradients;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!all[i].is_on(mesh.at().pp)) continue;
      const auto box = plan::box_of(all[i], degrees.tp, mesh.at().tp);
      at::Tensor gradient = wave(all[i].shape);
      for (std::size_t dim = 0; dim < box.sizes.size(); ++dim) {
        gradient = gradient.narrow(static_cast<std::int64_t>(dim), box.offsets[dim], box.sizes[dim]);
      }
      parts.push_back({i, box});
      gradients.push_back(gradient);
    }
    const at::Tensor loss = at::full({}, mesh.is_last_stage() ? 2.7F : 0.0F);
    const auto measured = GradientNorm(all, parts, mesh, contract::Reduction::kCanonical).measure(gradients, loss);
    EXPECT_EQ(measured.loss, 2.7F) << "of the last stage, on every stage";
    const double norm = measured.norm;
    at::Tensor most = at::full({1}, norm, at::kDouble);
    mesh.world().all_reduce(most, mesh::ReduceOp::kMax);
    EXPECT_EQ(most.item<double>(), norm) << "ranks disagree";
    if (mesh.rank() == 0) out = norm;
  });
  return out;
}

TEST(GradientNorm, IsTheSameInEveryLayout) {
  for (const bool tied : {false, true}) {
    const double alone = norm_in({}, tied);
    EXPECT_GT(alone, 1.0);
    for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2}, {.pp = 4, .dp = 2}})
      EXPECT_EQ(norm_in(degrees, tied), alone);
    for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .tp = 4}}) {
      EXPECT_NEAR(norm_in(degrees, tied), alone, 1e-14 * alone);  // a block that two ranks share is added in another order
    }
  }
}

/// All four have elements of each row, and a ring would add them in an order that goes by the block's place behind the others.
TEST(GradientNorm, OfBlocksThatFourRanksShareIsTheSameOverGlooWhateverElseAStageHas) {
  const auto edit = [](contract::RankConfig& config) { config.spec.parallelism.tensor = 4; };
  mesh::connect_ranks(4, edit, [](mesh::Mesh& mesh) {
    for (std::int64_t variant = 0; variant < 20; ++variant) {
      auto cut = parameter({64, 64});
      cut.split_dim = 1;
      const auto box = plan::box_of(cut, 4, mesh.at().tp);
      const at::Tensor gradient = wave(cut.shape).add(0.01 * static_cast<double>(variant)).narrow(1, box.offsets[1], 16);
      std::vector<double> norms;
      for (const std::size_t others : {0, 1, 2, 5, 9}) {
        std::vector<plan::Parameter> all;
        std::vector<NormPart> parts;
        std::vector<at::Tensor> gradients;
        for (std::size_t i = 0; i < others; ++i) {
          all.push_back(parameter({10}));
          parts.push_back({i, whole(all.back())});
          gradients.push_back(at::zeros({10}));
        }
        all.push_back(cut);
        parts.push_back({others, box});
        gradients.push_back(gradient);
        const at::Tensor no_loss = at::zeros({});
        norms.push_back(GradientNorm(all, parts, mesh, contract::Reduction::kCanonical).measure(gradients, no_loss).norm);
      }
      EXPECT_EQ(norms, std::vector<double>(norms.size(), norms.front())) << variant;
    }
    mesh.leave();
  });
}

TEST(ClipCoefficient, ScalesDownToTheNormAndNeverUp) {
  EXPECT_DOUBLE_EQ(clip_coefficient(4.0, 1.0), 1.0 / (4.0 + 1e-6));
  EXPECT_EQ(clip_coefficient(0.5, 1.0), 1.0);
  EXPECT_EQ(clip_coefficient(0.0, 1.0), 1.0);
  EXPECT_TRUE(std::isnan(clip_coefficient(std::numeric_limits<double>::quiet_NaN(), 1.0)));
}

TEST(Scale, MultipliesAll) {
  const at::Tensor a = at::full({2}, 4.0), b = at::full({1}, 8.0);
  scale({a, b}, 0.25);
  EXPECT_TRUE(at::equal(a, at::full({2}, 1.0)));
  EXPECT_TRUE(at::equal(b, at::full({1}, 2.0)));
}

}  // namespace
}  // namespace trainyard::optim
