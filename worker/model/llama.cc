#include "worker/model/llama.h"

#include <torch/torch.h>

#include "worker/model/attention.h"
#include "worker/model/dropout.h"
#include "worker/model/fp8.h"
#include "worker/model/head_loss.h"
#include "worker/model/rms_norm.h"
#include "worker/model/saved_tensors.h"
#include "worker/model/sequence_parallel.h"
#include "worker/model/swiglu.h"
#include "worker/model/tensor_parallel.h"
#include "worker/plan/cost.h"
#include "worker/plan/stages.h"

namespace trainyard::model {
namespace {

/// ZeRO's units in the order in which forward uses them.
UnitUses uses_of(const contract::ModelSize& size, const Parameters& parameters, const plan::LayerRange& layers, bool is_first,
                 bool is_last) {
  if (parameters.sharded() == nullptr) return {};
  const auto unit_of = [&](const std::string& name) { return parameters.sharded()->unit_of(parameters.place_of(name)); };
  std::vector<std::size_t> units;
  if (is_first) units.push_back(unit_of("model.embed_tokens.weight"));
  for (std::int32_t i = layers.first; i < layers.last; ++i) {
    units.push_back(unit_of("model.layers." + std::to_string(i) + ".input_layernorm.weight"));
  }
  if (is_last) units.push_back(unit_of("model.norm.weight"));
  if (is_last && size.tieEmbeddings) units.push_back(unit_of("model.embed_tokens.weight"));
  return {*parameters.sharded(), std::move(units), is_first};
}

}  // namespace

LlamaStage::LlamaStage(const contract::ModelSize& size, const Parameters& parameters, mesh::Mesh& mesh, const plan::Chunk& chunk,
                       const contract::Training& training, bool sequence)
    : size_(size),
      mesh_(mesh),
      recompute_(training.activationCheckpointing.mode),
      loss_(training.loss),
      dropout_(training.dropout),
      seed_(static_cast<std::uint64_t>(training.seed)),
      head_width_(plan::head_width(size)),
      first_class_(plan::classes_of(size.vocabularySize, mesh.layout().degrees().tp, mesh.at().tp).first),
      sequence_(sequence) {
  allow_keepers();
  if (training.activationCheckpointing.offload) {
    offloaded_.emplace(mesh.host());
    for (const auto& leaf : parameters.leaves()) offloaded_->leave_alone(leaf.variable);
  }
  if (training.precision.compute == contract::ComputePrecision::kFP8) {
    fp8_ = training.precision.fp8.value_or(contract::Fp8{}).recipe;
    check_fp8(mesh.device(), *fp8_);
  }
  const std::int32_t num_stages = mesh.layout().degrees().pp, part = chunk.index * num_stages + mesh.at().pp;
  const auto range = plan::split_layers(size, num_stages * chunk.count).at(static_cast<std::size_t>(part));
  for (std::int32_t i = range.first; i < range.last; ++i) {
    const auto get = [&, at = "model.layers." + std::to_string(i) + "."](const char* name) {
      return parameters.variable(at + name + ".weight");
    };
    layers_.push_back({.index = i,
                       .input_norm = get("input_layernorm"),
                       .q = get("self_attn.q_proj"),
                       .k = get("self_attn.k_proj"),
                       .v = get("self_attn.v_proj"),
                       .o = get("self_attn.o_proj"),
                       .post_norm = get("post_attention_layernorm"),
                       .gate = get("mlp.gate_proj"),
                       .up = get("mlp.up_proj"),
                       .down = get("mlp.down_proj")});
  }
  if (part == 0) embedding_VD = parameters.variable("model.embed_tokens.weight");
  if (part == num_stages * chunk.count - 1) {
    final_norm_D = parameters.variable("model.norm.weight");
    head_VD = parameters.head();
  }
  uses_ = uses_of(size, parameters, range, is_first(), is_last());
}

at::Tensor LlamaStage::forward(const at::Tensor& input, std::optional<std::int64_t> first_token) {
  at::Tensor x_BTD = input;
  if (is_first()) {
    uses_.before_look_up();
    x_BTD = mesh_.tensor().size() == 1 ? at::embedding(embedding_VD, input)
                                       : leave(vocabulary_parallel_embedding(input, embedding_VD, first_class_));
    uses_.after_look_up();
    x_BTD = dropped(x_BTD, 0, first_token);
  }
  for (std::size_t use = uses_.first(); const auto& layer : layers_) {
    x_BTD = uses_.enter(x_BTD, use);
    const auto run = [&] {
      if (recompute_ != contract::RecomputeMode::kFull) return decode(layer, x_BTD, first_token);
      return recomputed([this, &layer, first_token](const Tensors& in) { return Tensors{decode(layer, in[0], first_token)}; },
                        {x_BTD})[0];
    };
    x_BTD = offloaded_ ? offloaded_->run(use == uses_.first(), run) : run();
    x_BTD = uses_.leave(x_BTD, use++);
  }
  return x_BTD;
}

at::Tensor LlamaStage::decode(const Layer& layer, const at::Tensor& x_BTD, std::optional<std::int64_t> first_token) {
  const auto sites = dropout_sites(layer.index);
  const auto run = [&](const Block& part, const Tensors& in) {
    return recompute_ == contract::RecomputeMode::kSelective ? recomputed(part, in) : part(in);
  };
  const Tensors q_k_v = run([this, &layer](const Tensors& in) { return project(layer, in[0]); }, {x_BTD});
  const auto attended = [&] { return run([this, &layer](const Tensors& in) { return Tensors{attend(layer, in)}; }, q_k_v)[0]; };
  const at::Tensor middle_BTD = x_BTD + dropped(attended(), sites.attention, first_token);
  const Tensors gate_up = run([this, &layer](const Tensors& in) { return open(layer, in[0]); }, {middle_BTD});
  const auto fed = [&] { return run([this, &layer](const Tensors& in) { return Tensors{close(layer, in)}; }, gate_up)[0]; };
  return middle_BTD + dropped(fed(), sites.feed_forward, first_token);
}

at::Tensor LlamaStage::dropped(const at::Tensor& x_BTD, std::uint32_t site, std::optional<std::int64_t> first_token) const {
  if (dropout_ <= 0 || !first_token) return x_BTD;
  const std::int64_t before = sequence_ ? mesh_.at().tp * x_BTD.size(0) * x_BTD.size(1) : 0;  // tokens of lower ranks
  return dropout(x_BTD, dropout_, {.seed = seed_, .site = site, .first_token = *first_token + before});
}

at::Tensor LlamaStage::loss_sum(const at::Tensor& hidden_BTD, const at::Tensor& targets_BT) {
  at::Tensor x_BTD = hidden_BTD;
  const std::size_t first = uses_.first() + layers_.size();
  for (std::size_t use = first; use < uses_.size(); ++use) x_BTD = uses_.enter(x_BTD, use);
  at::Tensor loss = cross_entropy(norm(x_BTD, final_norm_D), targets_BT.flatten());
  for (std::size_t use = first; use < uses_.size(); ++use) loss = uses_.leave(loss, use);
  return loss;
}

at::Tensor LlamaStage::cross_entropy(const at::Tensor& x_BTD, const at::Tensor& targets_N) {
  const bool is_whole = mesh_.tensor().size() == 1;
  // On a GPU the head's gradient comes with the loss, also where the others' come late: every schedule computes the same bits.
  if (is_whole && (late_ == nullptr || x_BTD.is_cuda())) return head_loss(x_BTD, head_VD, targets_N, loss_, loss_in_backward_);
  const at::Tensor logits_NV = columns(x_BTD, {head_VD}, /*of_layer=*/false)[0].flatten(0, 1).to(at::kFloat);
  if (is_whole) return loss_of_logits(logits_NV, targets_N, loss_);
  return vocabulary_parallel_cross_entropy(logits_NV, targets_N, first_class_, size_.vocabularySize, mesh_.tensor(), loss_);
}

Tensors LlamaStage::project(const Layer& layer, const at::Tensor& x_BTD) {
  Tensors q_k_v = columns(norm(x_BTD, layer.input_norm), {layer.q, layer.k, layer.v});
  for (auto& out : q_k_v) out = out.unflatten(-1, {-1, head_width_}).transpose(1, 2);
  return q_k_v;
}

at::Tensor LlamaStage::attend(const Layer& layer, const Tensors& q_k_v) {
  const auto& table = table_for(q_k_v[0]);
  const at::Tensor q_BNTH = rotate(q_k_v[0], table), k_BGTH = rotate(q_k_v[1], table);
  const at::Tensor out_BNTH = causal_attention(q_BNTH, k_BGTH, q_k_v[2]);
  return leave(project_by(layer.o, out_BNTH.transpose(1, 2).flatten(2, 3)));
}

Tensors LlamaStage::open(const Layer& layer, const at::Tensor& x_BTD) {
  return columns(norm(x_BTD, layer.post_norm), {layer.gate, layer.up});
}

at::Tensor LlamaStage::close(const Layer& layer, const Tensors& gate_up) {
  return leave(project_by(layer.down, swiglu(gate_up[0], gate_up[1])));
}

at::Tensor LlamaStage::norm(const at::Tensor& x_BTD, const at::Tensor& weight_D) const {
  return rms_norm(x_BTD, weight_D, size_.normEpsilon);
}

Tensors LlamaStage::columns(const at::Tensor& x, const Tensors& weights, bool of_layer) const {
  if (sequence_) {
    return gather_and_multiply(x, weights, mesh_.tensor(), {.fp8 = of_layer ? fp8_ : std::nullopt, .late = late_});
  }
  const at::Tensor in = enter(x);
  if (of_layer && fp8_) return fp8_linear(in, weights, *fp8_);
  Tensors out;
  for (const auto& weight : weights) out.push_back(linear(in, weight));
  return out;
}

at::Tensor LlamaStage::linear(const at::Tensor& x, const at::Tensor& weight) const {
  if (late_ == nullptr) return at::linear(x, weight);
  keep_first(x);
  return late_->linear(x, weight);
}

at::Tensor LlamaStage::project_by(const at::Tensor& weight, const at::Tensor& x) const {
  return fp8_ ? fp8_linear(x, {weight}, *fp8_)[0] : linear(x, weight);
}

at::Tensor LlamaStage::enter(const at::Tensor& x) const {
  return mesh_.tensor().size() == 1 ? x : enter_parallel(x, mesh_.tensor());
}

at::Tensor LlamaStage::leave(const at::Tensor& x) const {
  if (mesh_.tensor().size() == 1) return x;
  return sequence_ ? leave_to_shards(x, mesh_.tensor()) : leave_parallel(x, mesh_.tensor());
}

const RotaryTable& LlamaStage::table_for(const at::Tensor& x_BNTH) {
  const std::int64_t tokens = x_BNTH.size(2);
  if (!table_.cosine_TH.defined() || table_.cosine_TH.size(0) != tokens) {
    table_ = rotary_table(tokens, head_width_, size_.ropeTheta, x_BNTH.options().requires_grad(false));
    if (offloaded_) {
      for (const auto& tensor : {table_.cosine_TH, table_.sine_TH}) offloaded_->leave_alone(tensor);
    }
  }
  return table_;
}

std::vector<LlamaStage> llama_chunks(const contract::TrainingJobSpec& spec, const Parameters& parameters, mesh::Mesh& mesh) {
  std::vector<LlamaStage> chunks;
  const bool all_forwards_first =
      spec.parallelism.pipeline > 1 && spec.parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kGPipe;
  const std::int32_t count = plan::chunks_per_stage(spec.parallelism);
  for (std::int32_t i = 0; i < count; ++i) {
    chunks.emplace_back(spec.model.size.value(), parameters, mesh, plan::Chunk{.index = i, .count = count}, spec.training,
                        spec.parallelism.sequence);
    if (all_forwards_first) chunks.back().differentiate_loss_in_backward();
  }
  return chunks;
}

}  // namespace trainyard::model
