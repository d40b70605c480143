#include "worker/model/attention.h"

#include <functional>
#include <vector>

#include <gtest/gtest.h>

namespace trainyard::model {
namespace {

/// Six heads of q in two groups, and gradients of all three.
struct Attended {
  explicit Attended(const std::function<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&)>& attend) {
    const auto numbers = [](std::int64_t heads, double step) {
      return at::arange(2 * heads * 10 * 8, at::kFloat).mul(step).sin().view({2, heads, 10, 8}).requires_grad_();
    };
    const at::Tensor q = numbers(6, 0.31), k = numbers(2, 0.47), v = numbers(2, 0.59);
    out = attend(q, k, v);
    out.backward(out.detach().cos());
    gradients = {q.grad(), k.grad(), v.grad()};
  }
  at::Tensor out;
  std::vector<at::Tensor> gradients;
};

at::Tensor by_groups(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return at::scaled_dot_product_attention(q, k, v, {}, 0.0, true, {}, true);
}

TEST(CausalAttention, OnACpuIsPyTorchsWithGroupsBitForBit) {
  const Attended mine(causal_attention), theirs(by_groups);
  EXPECT_TRUE(at::equal(mine.out, theirs.out));
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(mine.gradients[i], theirs.gradients[i])) << i;
}

TEST(RepeatedHeads, ServeAsManyHeadsEachAsItsGroupDoes) {
  const Attended repeated([](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const at::Tensor all_k = repeated_heads(k, 6), all_v = repeated_heads(v, 6);
    EXPECT_EQ(all_k.sizes(), q.sizes());
    EXPECT_TRUE(at::equal(all_k.select(1, 2), k.select(1, 0)));
    EXPECT_TRUE(at::equal(all_k.select(1, 3), k.select(1, 1)));
    return at::scaled_dot_product_attention(q, all_k, all_v, {}, 0.0, true);
  });
  const Attended grouped(by_groups);
  EXPECT_TRUE(at::allclose(repeated.out, grouped.out, 1e-6, 1e-6));
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::allclose(repeated.gradients[i], grouped.gradients[i], 1e-5, 1e-6)) << i;
}

}  // namespace
}  // namespace trainyard::model
