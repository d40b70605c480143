#pragma once
// One pipeline stage of a Llama-style decoder, on one tensor-parallel rank.
// Letters: B sequences, T tokens, D model width, N query heads and G key-value heads on this rank, H head width, F feed-forward width
// on this rank, V classes of the vocabulary on this rank.
// Source: Touvron et al., arXiv:2302.13971; names and conventions as in Hugging Face's modeling_llama.py.

#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/mesh.h"
#include "worker/model/parameters.h"
#include "worker/model/rotary.h"

namespace trainyard::model {

/// Lives on the training thread. `parameters` and `mesh` must outlive it.
class LlamaStage {
 public:
  LlamaStage(const contract::ModelSize& size, const Parameters& parameters, mesh::Mesh& mesh);

  /// The first stage takes tokens [B, T] int64, the others the stage before's activations [B, T, D]; returns activations [B, T, D].
  at::Tensor forward(const at::Tensor& input);

  /// Of the last stage: the sum over all tokens of the cross entropy in nats, an FP32 scalar; logits are FP32 for it.
  at::Tensor loss_sum(const at::Tensor& hidden_BTD, const at::Tensor& targets_BT);

 private:
  struct Layer {
    at::Tensor input_norm, q, k, v, o, post_norm, gate, up, down;
  };
  at::Tensor attend(const Layer& layer, const at::Tensor& x_BTD);
  at::Tensor feed_forward(const Layer& layer, const at::Tensor& x_BTD);
  at::Tensor norm(const at::Tensor& x_BTD, const at::Tensor& weight_D) const;
  at::Tensor enter(const at::Tensor& x) const;
  at::Tensor leave(const at::Tensor& x) const;
  const RotaryTable& table_for(const at::Tensor& x_BTD);

  contract::ModelSize size_;
  mesh::Mesh& mesh_;
  std::int64_t head_width_;
  std::vector<Layer> layers_;
  at::Tensor embedding_VD, final_norm_D, head_VD;  // undefined on stages without
  RotaryTable table_;
};

}  // namespace trainyard::model
