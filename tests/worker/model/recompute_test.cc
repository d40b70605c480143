#include "worker/model/recompute.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/worker/model/kept_bytes.h"
#include "worker/plan/activations.h"

namespace trainyard::model {
namespace {

using contract::ComputePrecision;
using contract::RecomputeMode;

/// A block of three products with a weight, which counts how far its runs come.
struct Chain {
  at::Tensor weight = at::arange(16, at::kFloat).view({4, 4}).div(16).requires_grad_();
  std::vector<int> reached = std::vector<int>(4, 0);

  Tensors operator()(const Tensors& in) {
    ++reached[0];
    at::Tensor x = in[0];
    for (std::size_t i = 1; i <= 3; ++i) {
      x = at::linear(at::silu(x), weight);
      ++reached[i];
    }
    return {x};
  }
};

/// The gradients of the input and of the weight.
Tensors gradients(Chain& chain, bool again) {
  const at::Tensor input = at::linspace(-1, 1, 8, at::kFloat).view({2, 4}).requires_grad_();
  const Block block = [&chain](const Tensors& in) { return chain(in); };
  const Tensors out = again ? recomputed(block, {input}) : block({input});
  return torch::autograd::grad({out[0].square().sum()}, {input, chain.weight});
}

TEST(Recomputed, GivesTheSameGradientsToTheBit) {
  Chain kept, again;
  const auto wanted = gradients(kept, false), found = gradients(again, true);
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(at::equal(wanted[i], found[i]));
}

TEST(Recomputed, RunsTheBlockOnceMoreAndNotBeyondWhatBackwardNeeds) {
  Chain chain;
  gradients(chain, true);
  EXPECT_EQ(chain.reached, (std::vector<int>{2, 2, 2, 1})) << "the last product's own output is nothing that backward needs";
}

TEST(Recomputed, RunsABlockWhoseInputSeveralProductsShareOnlyUpToTheFirstOfThem) {
  const at::Tensor weight = at::eye(4).requires_grad_(), input = at::ones({2, 4}).requires_grad_();
  int products = 0;
  const auto out = recomputed(
      [&](const Tensors& in) {
        const at::Tensor shared = in[0].exp();
        Tensors outputs;
        for (int i = 0; i < 3; ++i, ++products) outputs.push_back(at::linear(shared, weight));
        return outputs;
      },
      {input});
  torch::autograd::grad({out[0].sum() + out[1].sum() + out[2].sum()}, {input, weight});
  EXPECT_EQ(products, 3);
}

/// Doubles, keeps its input, and counts its runs.
struct Double : torch::autograd::Function<Double> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, int* count) {
    ++*count;
    context->save_for_backward({x});
    return x + x;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0] * 2 + context->get_saved_variables()[0] * 0, {}};
  }
};

TEST(Recomputed, DoesNotRunAFunctionAgainWhoseInputItWasToldToKeepFirst) {
  for (const bool told : {false, true}) {
    int runs = 0;
    const at::Tensor input = at::ones({4}).requires_grad_();
    const auto out = recomputed(
        [&](const Tensors& in) {
          const at::Tensor x = in[0] * 3;
          if (told) keep_first(x);
          return Tensors{Double::apply(x, &runs)};
        },
        {input});
    EXPECT_TRUE(at::equal(torch::autograd::grad({out[0].sum()}, {input})[0], at::full({4}, 6.0)));
    EXPECT_EQ(runs, told ? 1 : 2);
  }
}

TEST(Recomputed, RunsTheBlockOnceWhereNothingIsRecorded) {
  const at::NoGradGuard no_grad;
  Chain chain;
  recomputed([&chain](const Tensors& in) { return chain(in); }, {at::ones({2, 4})});
  EXPECT_EQ(chain.reached[0], 1);
}

TEST(Recomputed, OfTwoBackwardPassesOverOneGraphComputesAgainOnce) {
  Chain chain;
  const at::Tensor input = at::ones({2, 4}).requires_grad_();
  const auto out = recomputed([&chain](const Tensors& in) { return chain(in); }, {input});
  const auto loss = out[0].sum();
  const auto of_input = torch::autograd::grad({loss}, {input}, {}, /*retain_graph=*/true);
  const auto of_weight = torch::autograd::grad({loss}, {chain.weight});
  EXPECT_EQ(chain.reached[0], 2) << "as a schedule that splits backward wants it";
  Chain other;
  const auto together = other({input});
  const auto wanted = torch::autograd::grad({together[0].sum()}, {input, other.weight});
  EXPECT_TRUE(at::equal(of_input[0], wanted[0]));
  EXPECT_TRUE(at::equal(of_weight[0], wanted[1]));
}

TEST(Recomputed, PassesOnWhatABlockThrowsInItsSecondRun) {
  const at::Tensor input = at::ones({4}).requires_grad_();
  int runs = 0;
  const auto out = recomputed(
      [&](const Tensors& in) {
        if (++runs == 2) throw mesh::PeerLost("rank 1 is gone");
        return Tensors{in[0].exp()};
      },
      {input});
  EXPECT_THROW(torch::autograd::grad({out[0].sum()}, {input}), mesh::PeerLost);
}

TEST(Memory, KeptOfTheLayersIsWhatThePlanForetellsToTheByte) {
  for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kSelective, RecomputeMode::kFull}) {
    for (const auto precision :
         {ComputePrecision::kFP32, ComputePrecision::kBF16, ComputePrecision::kFP16, ComputePrecision::kFP8}) {
      for (const auto& [tp, sequence] : {std::pair{1, false}, {2, false}, {2, true}}) {
        SCOPED_TRACE(testing::Message() << contract::name_of(mode) << ' ' << contract::name_of(precision) << " tp=" << tp
                                        << (sequence ? ", sequence" : ""));
        auto spec = trainer::small_job();
        spec.model.size->layers = 9;  // three a stage
        spec.training.precision.compute = precision;
        spec.training.activationCheckpointing.mode = mode;
        spec.parallelism.sequence = sequence;
        const std::int64_t found = bytes_kept(spec, tp).device;
        spec.parallelism.tensor = tp;
        const std::int64_t tokens = std::int64_t{2} * spec.data.sequenceLength;
        std::int64_t a_rank = 3 * plan::kept_activation_bytes(spec, tokens);
        // What the first layer keeps of its input was there before; the output is of the same size, and is kept by nobody.
        const bool input_counts = mode != RecomputeMode::kNone || precision == ComputePrecision::kFP32;
        if (!input_counts) a_rank += tokens / (sequence ? tp : 1) * spec.model.size->hiddenSize * 2;
        EXPECT_EQ(found, tp * a_rank);
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::model
