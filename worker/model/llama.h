#pragma once
// One part of a Llama-style decoder, a pipeline stage or a chunk of it, on one tensor-parallel rank.
// Letters: B sequences, T tokens, D model width, N query heads and G key-value heads on this rank, H head width, F feed-forward width
// on this rank, V classes of the vocabulary on this rank.
// Source: Touvron et al., arXiv:2302.13971; names and conventions as in Hugging Face's modeling_llama.py.

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/mesh.h"
#include "worker/model/late_weights.h"
#include "worker/model/offloaded_activations.h"
#include "worker/model/parameters.h"
#include "worker/model/recompute.h"
#include "worker/model/rotary.h"
#include "worker/plan/stages.h"

namespace trainyard::model {

/// Lives on the training thread. `parameters` and `mesh` must outlive it.
class LlamaStage {
 public:
  /// Of the mesh's stage: all of it, or one chunk. Of `training`: precision.compute FP8 multiplies with the weights of layers, but not
  /// with the head, in FP8 (fp8.h). activationCheckpointing.mode Full computes each layer again in the backward pass, from its input;
  /// Selective, from the layer's two residual inputs and the outputs of the q, k, v, gate and up projections, both norms, the rotary
  /// embedding, the attention core and SwiGLU, and q, k and gate once more on the way to the weights of v and up.
  /// activationCheckpointing.offload keeps on the host what the mode keeps of the layers. None of these changes a bit.
  /// `sequence`: as parallelism.sequence, activations are shards over the tensor ranks (sequence_parallel.h), of which there are several then.
  LlamaStage(const contract::ModelSize& size, const Parameters& parameters, mesh::Mesh& mesh, const plan::Chunk& chunk = {},
             const contract::Training& training = {}, bool sequence = false);

  /// Whether this is the first part of the model, which looks tokens up, and the last, which has the head.
  bool is_first() const { return embedding_VD.defined(); }
  bool is_last() const { return head_VD.defined(); }

  /// From now on backward leaves the gradients of matrices to `late`, which must outlive this object.
  void split_backward(LateWeights& late) { late_ = &late; }
  /// From now on the loss's gradients are computed in backward (head_loss.h).
  void differentiate_loss_in_backward() { loss_in_backward_ = true; }

  /// The first part takes tokens [B, T] int64, the others the part before's activations [B, T, D]; returns activations [B, T, D]. With
  /// `sequence` activations are shards, [B, T / tensor ranks, D], and gradients of norms those of the rank's tokens alone.
  /// `first_token`: the number of the first token among all of the training, row after row, by which training.dropout drops; without it,
  /// as in an evaluation, nothing is dropped.
  at::Tensor forward(const at::Tensor& input, std::optional<std::int64_t> first_token = std::nullopt);

  /// Of the last part: the sum over all tokens of the cross entropy in nats, an FP32 scalar; logits are FP32 for it. Its gradient has
  /// training.loss's terms in it (head_loss.h).
  at::Tensor loss_sum(const at::Tensor& hidden_BTD, const at::Tensor& targets_BT);

 private:
  struct Layer {
    std::int32_t index = 0;  // in the whole model
    at::Tensor input_norm, q, k, v, o, post_norm, gate, up, down;
  };
  at::Tensor cross_entropy(const at::Tensor& x_BTD, const at::Tensor& targets_N);
  /// `first_token`: as of forward(); by value, since a layer may be computed again when another micro-batch has passed.
  at::Tensor decode(const Layer& layer, const at::Tensor& x_BTD, std::optional<std::int64_t> first_token);
  at::Tensor dropped(const at::Tensor& x_BTD, std::uint32_t site, std::optional<std::int64_t> first_token) const;
  // The four parts of a layer, each up to the next product with weights whose outputs Selective keeps.
  Tensors project(const Layer& layer, const at::Tensor& x_BTD);
  at::Tensor attend(const Layer& layer, const Tensors& q_k_v);
  Tensors open(const Layer& layer, const at::Tensor& x_BTD);
  at::Tensor close(const Layer& layer, const Tensors& gate_up);
  at::Tensor norm(const at::Tensor& x_BTD, const at::Tensor& weight_D) const;
  /// The products with weights that tensor parallelism cuts by columns; those of a layer, in FP8 where that is asked for.
  Tensors columns(const at::Tensor& x, const Tensors& weights, bool of_layer = true) const;
  at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor project_by(const at::Tensor& weight, const at::Tensor& x) const;  // of a layer: in FP8 where that is asked for
  at::Tensor enter(const at::Tensor& x) const;
  at::Tensor leave(const at::Tensor& x) const;
  const RotaryTable& table_for(const at::Tensor& x_BNTH);

  contract::ModelSize size_;
  mesh::Mesh& mesh_;
  contract::RecomputeMode recompute_;
  contract::Loss loss_;
  double dropout_;
  std::uint64_t seed_;
  std::optional<OffloadedActivations> offloaded_;
  std::optional<contract::Fp8Recipe> fp8_;
  std::int64_t head_width_;
  std::int64_t first_class_;  // of those that this rank has
  bool sequence_;
  LateWeights* late_ = nullptr;
  bool loss_in_backward_ = false;
  std::vector<Layer> layers_;
  UnitUses uses_;
  at::Tensor embedding_VD, final_norm_D, head_VD;  // undefined on parts without
  RotaryTable table_;
};

/// The chunks of this rank's stage, in order; one where the schedule has none.
std::vector<LlamaStage> llama_chunks(const contract::TrainingJobSpec& spec, const Parameters& parameters, mesh::Mesh& mesh);

}  // namespace trainyard::model
