#include "worker/model/offloaded_activations.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/model/kept_bytes.h"
#include "worker/model/recompute.h"
#include "worker/plan/activations.h"
#include "worker/plan/offload_cost.h"

namespace trainyard::model {
namespace {

using contract::ComputePrecision;
using contract::RecomputeMode;

/// Layers of a product with a weight, whose tensors are large enough to go.
struct Layers {
  static constexpr std::int64_t kWidth = 32, kRows = 16;
  explicit Layers(int count) {
    for (int i = 0; i < count; ++i)
      weights.push_back(at::arange(kWidth * kWidth, at::kFloat).add(i).sin().view({kWidth, kWidth}).requires_grad_());
  }
  at::Tensor layer(std::size_t i, const at::Tensor& x) const { return at::linear(at::silu(x), weights[i]).t().contiguous().t(); }

  /// The gradients of the input and the weights.
  Tensors gradients(OffloadedActivations* offloaded) {
    const at::Tensor input = at::linspace(-1, 1, kRows * kWidth, at::kFloat).view({kRows, kWidth}).requires_grad_();
    at::Tensor x = input;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      x = offloaded != nullptr ? offloaded->run(i == 0, [&] { return layer(i, x); }) : layer(i, x);
    }
    Tensors of = weights;
    of.push_back(input);
    return torch::autograd::grad({x.square().sum()}, of);
  }
  Tensors weights;
};

TEST(OffloadedActivations, GiveTheSameGradientsToTheBit) {
  for (const int count : {1, 2, 3, 7}) {
    Layers layers(count);
    const auto wanted = layers.gradients(nullptr);
    mesh::LateLink late;
    const auto at_once = mesh::host_link(at::kCPU);
    for (mesh::HostLink* link : {static_cast<mesh::HostLink*>(&late), at_once.get()}) {
      OffloadedActivations offloaded(*link);
      for (const auto& weight : layers.weights) offloaded.leave_alone(weight);
      for (int step = 0; step < 2; ++step) {
        const auto found = layers.gradients(&offloaded);
        for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(at::equal(found[i], wanted[i])) << i;
      }
    }
  }
}

TEST(OffloadedActivations, LeaveAloneWhatIsSmallAndWhatTheyAreTold) {
  std::atomic<std::int64_t> bytes = 0;
  mesh::LateLink link(1, &bytes);
  const at::Tensor x = at::ones({256}).requires_grad_(), small = at::ones({255}).requires_grad_();
  for (const bool told : {false, true}) {
    OffloadedActivations offloaded(link);
    if (told) offloaded.leave_alone(x);
    const at::Tensor kept = offloaded.run(true, [&] { return x.square(); });
    EXPECT_EQ(bytes, told ? 0 : 1024);
    const at::Tensor also = offloaded.run(false, [&] { return small.square(); });
    EXPECT_EQ(bytes, told ? 0 : 1024);
  }
  EXPECT_EQ(bytes, 0) << "what is kept goes with the graph";
}

TEST(OffloadedActivations, KeepViewsOfTheSameElementsOnceAndGiveThemTheirStrides) {
  std::atomic<std::int64_t> bytes = 0;
  mesh::LateLink link(1, &bytes);
  OffloadedActivations offloaded(link);
  const at::Tensor x = at::arange(512, at::kFloat).view({16, 32}).requires_grad_();
  const at::Tensor y = offloaded.run(true, [&] { return x.square().sum() + x.t().pow(3).sum() + x.flatten().exp2().sum(); });
  EXPECT_EQ(bytes, 2 * 512 * 4) << "x, and the result of exp2";
  const auto found = torch::autograd::grad({y}, {x})[0];
  const auto wanted = torch::autograd::grad({x.square().sum() + x.t().pow(3).sum() + x.flatten().exp2().sum()}, {x})[0];
  EXPECT_TRUE(at::equal(found, wanted));
}

TEST(OffloadedActivations, HaveTwoLayersOnTheDeviceAndTheRestOnTheHost) {
  constexpr int kCount = 6;
  constexpr std::int64_t kLayer = Layers::kRows * Layers::kWidth * 4 * 2;  // the input of silu, and of the product
  Layers layers(kCount);
  std::atomic<std::int64_t> host = 0;
  mesh::LateLink link(1, &host);
  OffloadedActivations offloaded(link);
  for (const auto& weight : layers.weights) offloaded.leave_alone(weight);
  at::Tensor x = at::ones({Layers::kRows, Layers::kWidth}).requires_grad_();
  const test::LiveBytes live;
  const std::int64_t before = live.now();
  for (std::size_t i = 0; i < kCount; ++i) {
    x = offloaded.run(i == 0, [&] { return layers.layer(i, x); });
    EXPECT_EQ(host, static_cast<std::int64_t>(i + 1) * kLayer);
    EXPECT_LE(live.now() - before - host, 2 * kLayer + Layers::kRows * Layers::kWidth * 4) << i;
  }
  torch::autograd::backward({x.sum()});
  EXPECT_EQ(host, 0);
}

// As the stages of a pipeline have it: the last layers of the one are still on the device.
TEST(OffloadedActivations, OfOneForwardLeaveTheDeviceWhenTheBackwardOfAnotherBegins) {
  Layers layers(6);
  mesh::LateLink link;
  OffloadedActivations offloaded(link);
  for (const auto& weight : layers.weights) offloaded.leave_alone(weight);
  Tensors outputs;
  for (int forward = 0; forward < 2; ++forward) {
    at::Tensor x = at::ones({Layers::kRows, Layers::kWidth}).requires_grad_();
    for (std::size_t i = 0; i < 6; ++i) x = offloaded.run(i == 0, [&] { return layers.layer(i, x); });
    outputs.push_back(x);
  }
  EXPECT_EQ(link.done(mesh::Way::kDown), 2 * (6 + 4)) << "two tensors a layer";
  torch::autograd::backward({outputs[0].sum()});
  EXPECT_EQ(link.done(mesh::Way::kDown), 2 * (6 + 6));
  torch::autograd::backward({outputs[1].sum()});
  EXPECT_EQ(link.done(mesh::Way::kUp), 6 + 6);
  Layers plain(6);
  at::Tensor x = at::ones({Layers::kRows, Layers::kWidth});
  for (std::size_t i = 0; i < 6; ++i) x = plain.layer(i, x);
  torch::autograd::backward({x.sum()});
  for (std::size_t i = 0; i < 6; ++i) EXPECT_TRUE(at::equal(layers.weights[i].grad(), 2 * plain.weights[i].grad())) << i;
}

TEST(OffloadedActivations, HoldOnToNoTensorThatTheyWereToldOfAndThatIsGone) {
  mesh::LateLink link;
  OffloadedActivations offloaded(link);
  const std::int64_t before = test::LiveBytes::now();
  const test::LiveBytes live;
  for (int i = 0; i < 10; ++i) offloaded.leave_alone(at::ones({1024}));
  EXPECT_LE(live.now() - before, 2 * 4096);
}

TEST(OffloadedActivations, DoNothingWhereNothingIsRecorded) {
  const at::NoGradGuard no_grad;
  std::atomic<std::int64_t> bytes = 0;
  mesh::LateLink link(1, &bytes);
  OffloadedActivations offloaded(link);
  offloaded.run(true, [] { return at::ones({512}).square(); });
  EXPECT_EQ(bytes, 0);
}

TEST(OffloadedActivations, PassOnWhatALayerThrows) {
  mesh::LateLink link;
  OffloadedActivations offloaded(link);
  const at::Tensor x = at::ones({512}).requires_grad_();
  EXPECT_THROW(offloaded.run(true,
                             [&]() -> at::Tensor {
                               const at::Tensor y = x.square();
                               throw mesh::PeerLost("rank 1 is gone");
                             }),
               mesh::PeerLost);
  EXPECT_TRUE(at::equal(torch::autograd::grad({offloaded.run(true, [&] { return x.square(); }).sum()}, {x})[0], 2 * x));
}

TEST(OffloadedActivations, OfAModelAreOnDeviceAndHostWhatThePlanForetells) {
  for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kSelective, RecomputeMode::kFull}) {
    for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(mode) << ' ' << contract::name_of(precision));
      auto spec = trainer::small_job();
      spec.model.size->layers = 27;  // nine a stage
      spec.data.sequenceLength = 128;
      spec.training.precision.compute = precision;
      spec.training.activationCheckpointing = {.mode = mode, .offload = true};
      const auto found = bytes_kept(spec);
      const std::int64_t layer = plan::kept_activation_bytes(spec, std::int64_t{2} * spec.data.sequenceLength);
      // What is below a kilobyte stays: the norms' roots. What two layers keep, both bring down.
      EXPECT_NEAR(static_cast<double>(found.host), static_cast<double>(9 * layer), 0.02 * 9 * static_cast<double>(layer));
      const std::int64_t stream = 2 * spec.data.sequenceLength * spec.model.size->hiddenSize * 4;  // the output, at the most
      EXPECT_LE(found.device, plan::kOffloadLayers * layer + stream + layer / 10);
    }
  }
}

}  // namespace
}  // namespace trainyard::model
