#include "worker/model/attention.h"

#include <torch/torch.h>

namespace trainyard::model {

at::Tensor causal_attention(const at::Tensor& q_BNTH, const at::Tensor& k_BGTH, const at::Tensor& v_BGTH) {
  const bool is_grouped = q_BNTH.size(1) != k_BGTH.size(1);
  const auto attend = [&](const at::Tensor& k, const at::Tensor& v, bool by_groups) {
    return at::scaled_dot_product_attention(q_BNTH, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true, /*scale=*/{},
                                            by_groups);
  };
  if (!is_grouped || !q_BNTH.is_cuda() || q_BNTH.scalar_type() != at::kFloat) return attend(k_BGTH, v_BGTH, is_grouped);
  const std::int64_t heads = q_BNTH.size(1);
  return attend(repeated_heads(k_BGTH, heads), repeated_heads(v_BGTH, heads), false);
}

at::Tensor repeated_heads(const at::Tensor& x_BGTH, std::int64_t heads) {
  return x_BGTH.unsqueeze(2).expand({-1, -1, heads / x_BGTH.size(1), -1, -1}).flatten(1, 2);
}

}  // namespace trainyard::model
