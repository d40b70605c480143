#include "worker/model/sequence_parallel.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/mesh/ranks.h"
#include "tests/worker/model/four_tensor_ranks.h"
#include "tests/worker/model/live_bytes.h"
#include "worker/model/fp8.h"
#include "worker/model/recompute.h"
#include "worker/model/tensor_parallel.h"

namespace trainyard::model {
namespace {

at::Tensor values(at::IntArrayRef shape, double step, at::ScalarType type = at::kFloat) {
  return at::arange(c10::multiply_integers(shape), at::kFloat).mul(step).sin().view(shape).to(type);
}

/// The shard of rank `rank` of [2, 12, D].
at::Tensor shard_of(const at::Tensor& whole, std::int32_t rank) {
  return whole.view({24, -1}).narrow(0, rank * 6, 6).view({2, 3, -1}).clone();
}

TEST(Gathered, AreTheShardsOneBehindTheOther) {
  const at::Tensor whole = values({2, 12, 5}, 0.3);
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    const at::Tensor found = gathered(shard_of(whole, mesh.rank()), mesh.tensor());
    EXPECT_TRUE(at::equal(found, whole));
    EXPECT_TRUE(at::equal(gathered(shard_of(whole, mesh.rank()).view({6, 5}), mesh.tensor()), whole.view({24, 5})));
  });
}

TEST(LeaveToShards, GivesEachRankItsShardOfTheSumAndGathersGradients) {
  const at::Tensor whole = values({2, 12, 5}, 0.3);
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    const at::Tensor x = (whole * (mesh.rank() + 1)).requires_grad_();
    const at::Tensor y = leave_to_shards(x, mesh.tensor());
    EXPECT_TRUE(at::allclose(y, shard_of(whole * 10, mesh.rank()), 1e-6, 1e-6));
    const at::Tensor gradient = values({2, 12, 5}, 0.7);
    y.backward(shard_of(gradient, mesh.rank()));
    EXPECT_TRUE(at::equal(x.grad(), gradient));
  });
}

TEST(LeaveToShards, SaysWhichTokensRanksCannotShare) {
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    try {
      leave_to_shards(at::ones({1, 6, 3}), mesh.tensor());
      FAIL();
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what_without_backtrace()).find("4 ranks can't share 6 tokens"), std::string::npos);
    }
  });
}

struct GradientsOfProducts {
  std::vector<at::Tensor> outputs;
  at::Tensor x;  // the rank's shard of it
  std::vector<at::Tensor> weights;
};

constexpr std::int64_t kRows[] = {32, 16, 48};

/// Three products of [2, 12, 16] with weights of this rank, and their gradients.
GradientsOfProducts multiplied(mesh::Mesh& mesh, at::ScalarType type, bool shards, Multiplying how) {
  at::Tensor x = values({2, 12, 16}, 0.37, type);
  if (shards) x = shard_of(x, mesh.rank());
  x.requires_grad_();
  GradientsOfProducts out;
  std::vector<at::Tensor> weights;
  for (const auto rows : kRows) weights.push_back(values({rows, 16}, 0.11 + mesh.rank(), type).requires_grad_());
  if (shards) {
    out.outputs = gather_and_multiply(x, weights, mesh.tensor(), how);
  } else {
    const at::Tensor in = enter_parallel(x, mesh.tensor());
    for (const auto& weight : weights)
      out.outputs.push_back(how.fp8 ? fp8_linear(in, {weight}, *how.fp8)[0] : at::linear(in, weight));
  }
  at::Tensor sum;
  for (const auto& output : out.outputs) {
    const at::Tensor one = output.to(at::kFloat).square().sum();
    sum = sum.defined() ? sum + one : one;
  }
  sum.backward();
  if (how.late != nullptr) {
    EXPECT_FALSE(weights[0].grad().defined());
    LateWeights::finish(how.late->take());
  }
  out.x = shards ? x.grad() : shard_of(x.grad(), mesh.rank());
  for (const auto& weight : weights) out.weights.push_back(weight.grad());
  return out;
}

void expect_equal(const GradientsOfProducts& a, const GradientsOfProducts& b) {
  EXPECT_TRUE(at::equal(a.x, b.x));
  for (std::size_t i = 0; i < a.outputs.size(); ++i) {
    EXPECT_TRUE(at::equal(a.outputs[i], b.outputs[i])) << i;
    EXPECT_TRUE(at::equal(a.weights[i], b.weights[i])) << i;
  }
}

TEST(GatherAndMultiply, GivesTheBitsOfTensorParallelismForwardAndBackward) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
      const auto wanted = multiplied(mesh, type, false, {});
      expect_equal(multiplied(mesh, type, true, {}), wanted);
      LateWeights late;
      expect_equal(multiplied(mesh, type, true, {.fp8 = {}, .late = &late}), wanted);
    });
  }
}

TEST(GatherAndMultiply, GivesTheBitsOfTensorParallelismInFp8) {
  for (const auto recipe : {contract::Fp8Recipe::kTensorwise, contract::Fp8Recipe::kRowwise, contract::Fp8Recipe::kBlockwise}) {
    mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
      const Multiplying how{.fp8 = recipe};
      expect_equal(multiplied(mesh, at::kBFloat16, true, how), multiplied(mesh, at::kBFloat16, false, how));
    });
  }
}

TEST(GatherAndMultiply, IsTheSameWhenItsExchangesEndAtOnceAndWhenTheyEndAtTheLastMoment) {
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    auto late = mesh::late(mesh);
    expect_equal(multiplied(late, at::kFloat, true, {}), multiplied(mesh, at::kFloat, true, {}));
    LateWeights weights;
    expect_equal(multiplied(late, at::kFloat, true, {.fp8 = {}, .late = &weights}), multiplied(mesh, at::kFloat, true, {}));
  });
}

/// Notes what is started, waited for, and multiplied meanwhile.
class NotingComm final : public mesh::LateComm {
 public:
  NotingComm(mesh::Comm& inner, std::vector<std::string>& notes) : LateComm(inner), notes_(notes) {}
  std::unique_ptr<mesh::Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override {
    return noted("gather", LateComm::start_all_gather(whole, part));
  }
  std::unique_ptr<mesh::Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) override {
    return noted("sum", LateComm::start_reduce_scatter(part, whole));
  }

 private:
  struct Noted final : mesh::Pending {
    void wait() override {
      notes->push_back(name + " ends");
      inner->wait();
    }
    std::string name;
    std::vector<std::string>* notes = nullptr;
    std::unique_ptr<mesh::Pending> inner;
  };
  std::unique_ptr<mesh::Pending> noted(const std::string& name, std::unique_ptr<mesh::Pending> inner) {
    notes_.push_back(name + " begins");
    auto out = std::make_unique<Noted>();
    out->name = name;
    out->notes = &notes_;
    out->inner = std::move(inner);
    return out;
  }
  std::vector<std::string>& notes_;
};

TEST(GatherAndMultiply, GathersAgainBesideTheGradientOfTheInputWhoseSumGoesBesideThoseOfTheWeights) {
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    std::vector<std::string> notes;
    NotingComm comm(mesh.tensor(), notes);
    const at::Tensor x = at::ones({2, 3, 16}).requires_grad_(), weight = at::ones({8, 16}).requires_grad_();
    const auto out = gather_and_multiply(x, {weight}, comm, {});
    EXPECT_EQ(notes, (std::vector<std::string>{"gather begins", "gather ends"}));
    notes.clear();
    out[0].sum().backward();
    EXPECT_EQ(notes, (std::vector<std::string>{"gather begins", "sum begins", "gather ends", "sum ends"}));
  });
}

TEST(GatherAndMultiply, KeepsTheShardAlone) {
  test::LiveBytes live;
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    const at::Tensor weight = at::ones({8, 64}).requires_grad_();
    const at::Tensor x = at::ones({2, 3, 64}).requires_grad_() * 1;
    gather_and_multiply(x, {weight}, mesh.tensor(), {});  // what the group of threads hands over stays until the next time
    mesh.world().barrier();
    const std::int64_t before = live.now();
    mesh.world().barrier();
    const auto out = gather_and_multiply(x, {weight}, mesh.tensor(), {});
    mesh.world().barrier();
    EXPECT_EQ(live.now() - before, std::int64_t{4} * 2 * 12 * 8 * 4) << "the outputs of four ranks";
    mesh.world().barrier();
  });
}

TEST(GatherAndMultiply, DoesNotRunAgainInABlockThatIsComputedAgain) {
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    std::vector<std::string> notes;
    NotingComm comm(mesh.tensor(), notes);
    const at::Tensor x = at::ones({2, 3, 16}).requires_grad_(), weight = at::ones({8, 16}).requires_grad_();
    const auto out = recomputed([&](const Tensors& in) { return gather_and_multiply(in[0] * 3, {weight}, comm, {}); }, {x});
    notes.clear();
    out[0].sum().backward();
    EXPECT_EQ(std::count(notes.begin(), notes.end(), "gather begins"), 1) << "for the gradient of the weight";
  });
}

TEST(LateWeights, GatherAShardOnceForAllProductsWithIt) {
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    std::vector<std::string> notes;
    NotingComm comm(mesh.tensor(), notes);
    LateWeights late;
    const at::Tensor x = at::ones({2, 3, 16}).requires_grad_();
    const std::vector<at::Tensor> weights{at::ones({8, 16}).requires_grad_(), at::ones({4, 16}).requires_grad_()};
    const auto out = gather_and_multiply(x, weights, comm, {.fp8 = {}, .late = &late});
    notes.clear();
    (out[0].sum() + out[1].sum()).backward();
    EXPECT_EQ(notes, (std::vector<std::string>{"sum begins", "sum ends"}));
    notes.clear();
    LateWeights::finish(late.take());
    EXPECT_EQ(notes, (std::vector<std::string>{"gather begins", "gather ends"}));
    EXPECT_TRUE(at::equal(weights[0].grad(), at::full({8, 16}, 24.0)));
  });
}

}  // namespace
}  // namespace trainyard::model
