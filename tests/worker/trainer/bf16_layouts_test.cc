// How far layouts may be from one process in BF16, where their sums are in another order (docs/numerics.md).
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {
namespace {

using contract::Reduction;

struct Distance {
  double first_loss = 0, first_gradient = 0, losses = 0, mean_of_losses = 0;
};

/// All relative; of the gradients the tensor that is furthest, in L2.
Distance distance(const Trained& a, const Trained& b) {
  Distance out{.first_loss = std::abs(a.losses.front() / b.losses.front() - 1)};
  for (const auto& [name, gradient] : b.first_gradients) {
    out.first_gradient = std::max(out.first_gradient, relative_difference(a.first_gradients.at(name), gradient));
  }
  double sum_a = 0, sum_b = 0;
  for (std::size_t i = 0; i < b.losses.size(); ++i) {
    out.losses = std::max(out.losses, std::abs(a.losses[i] / b.losses[i] - 1));
    sum_a += a.losses[i];
    sum_b += b.losses[i];
  }
  out.mean_of_losses = std::abs(sum_a / sum_b - 1);
  return out;
}

struct Way {
  contract::Degrees degrees;
  std::int32_t zero = 0;
  bool sequence = false;
};

TEST(Bf16, LayoutsStayAsCloseToOneProcessAsTheirRoundingLetsThem) {
  const std::vector<Way> ways{{{.dp = 2}},
                              {{.dp = 4}, 3},
                              {{.tp = 2}},
                              {{.tp = 2}, 0, true},
                              {{.tp = 4}},
                              {{.tp = 4}, 0, true},
                              {{.dp = 2, .tp = 2}, 1},
                              {{.dp = 2, .tp = 2}, 3, true},
                              {{.pp = 2, .tp = 2}},
                              {{.pp = 2, .dp = 2, .tp = 2}, 2, true}};
  for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
    for (const std::int64_t seed : {1, 2}) {
      auto spec = longer_job(40);
      spec.model.size->keyValueHeads = 4;
      spec.parallelism.microBatchSize = 2;
      spec.training.seed = seed;
      spec.training.reduction = reduction;
      spec.training.precision.compute = contract::ComputePrecision::kBF16;
      const auto alone = train(spec, {});
      for (const auto& [degrees, zero, sequence] : ways) {
        SCOPED_TRACE(testing::Message() << contract::name_of(reduction) << ", seed " << seed << ", pp " << degrees.pp << ", dp "
                                        << degrees.dp << ", tp " << degrees.tp << ", zero " << zero
                                        << (sequence ? ", sequence" : ""));
        auto in_parts = spec;
        in_parts.parallelism.zero.stage = zero;
        in_parts.parallelism.sequence = sequence;
        const auto found = distance(train(in_parts, degrees), alone);
        EXPECT_LT(found.first_loss, 1e-4);
        EXPECT_LT(found.first_gradient, 3e-2);
        EXPECT_LT(found.losses, 1e-3);
        EXPECT_LT(found.mean_of_losses, 1e-4);
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::trainer
