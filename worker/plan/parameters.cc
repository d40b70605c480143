#include "worker/plan/parameters.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

constexpr std::int64_t kRows = 0;     // column-parallel in Megatron's words: the outputs are cut
constexpr std::int64_t kColumns = 1;  // row-parallel: the inputs are cut, and the outputs summed

struct Place {
  std::int32_t stage = 0, chunk = 0;
};

Parameter matrix(std::string name, std::int64_t rows, std::int64_t columns, std::int64_t split_dim, const Place& at,
                 Initial initial = Initial::kNormal) {
  return {.name = std::move(name),
          .shape = {rows, columns},
          .initial = initial,
          .decays = true,
          .split_dim = split_dim,
          .stages = {at.stage},
          .chunks = {at.chunk}};
}

Parameter norm(std::string name, std::int64_t width, const Place& at) {
  return {.name = std::move(name),
          .shape = {width},
          .initial = Initial::kOnes,
          .decays = false,
          .split_dim = {},
          .stages = {at.stage},
          .chunks = {at.chunk}};
}

void append_layer(std::vector<Parameter>& out, const contract::ModelSize& size, std::int32_t layer, const Place& place) {
  const std::string at = "model.layers." + std::to_string(layer) + ".";
  const std::int64_t width = size.hiddenSize, feed_forward = size.feedForwardSize;
  const std::int64_t key_value_width = std::int64_t{key_value_heads(size)} * head_width(size);
  out.push_back(norm(at + "input_layernorm.weight", width, place));
  out.push_back(matrix(at + "self_attn.q_proj.weight", width, width, kRows, place));
  out.push_back(matrix(at + "self_attn.k_proj.weight", key_value_width, width, kRows, place));
  out.push_back(matrix(at + "self_attn.v_proj.weight", key_value_width, width, kRows, place));
  out.push_back(matrix(at + "self_attn.o_proj.weight", width, width, kColumns, place, Initial::kResidualNormal));
  out.push_back(norm(at + "post_attention_layernorm.weight", width, place));
  out.push_back(matrix(at + "mlp.gate_proj.weight", feed_forward, width, kRows, place));
  out.push_back(matrix(at + "mlp.up_proj.weight", feed_forward, width, kRows, place));
  out.push_back(matrix(at + "mlp.down_proj.weight", width, feed_forward, kColumns, place, Initial::kResidualNormal));
}

}  // namespace

bool Parameter::is_on(std::int32_t stage) const { return std::find(stages.begin(), stages.end(), stage) != stages.end(); }

std::int32_t Parameter::chunk_on(std::int32_t stage) const {
  const auto found = std::find(stages.begin(), stages.end(), stage);
  if (found == stages.end()) throw std::invalid_argument("stage " + std::to_string(stage) + " has no " + name);
  return chunks.at(static_cast<std::size_t>(found - stages.begin()));
}

std::vector<Parameter> llama_parameters(const contract::ModelSize& size, const std::vector<LayerRange>& parts,
                                        std::int32_t chunks) {
  const auto num_parts = static_cast<std::int32_t>(parts.size());
  const std::int32_t num_stages = num_parts / chunks;
  const auto place_of = [&](std::int32_t part) { return Place{.stage = part % num_stages, .chunk = part / num_stages}; };
  const Place first = place_of(0), last = place_of(num_parts - 1);
  std::vector<Parameter> out;
  auto embedding = matrix("model.embed_tokens.weight", size.vocabularySize, size.hiddenSize, kRows, first);
  if (size.tieEmbeddings && last.stage != first.stage) {
    embedding.stages.push_back(last.stage);
    embedding.chunks.push_back(last.chunk);
  }
  embedding.is_vocabulary = true;
  out.push_back(std::move(embedding));
  for (std::int32_t layer = 0; layer < size.layers; ++layer) append_layer(out, size, layer, place_of(part_of(parts, layer)));
  out.push_back(norm("model.norm.weight", size.hiddenSize, last));
  if (!size.tieEmbeddings) {
    out.push_back(matrix("lm_head.weight", size.vocabularySize, size.hiddenSize, kRows, last));
    out.back().is_vocabulary = true;
  }
  std::sort(out.begin(), out.end(), [](const Parameter& a, const Parameter& b) { return a.name < b.name; });
  return out;
}

std::vector<Parameter> parameters_of(const contract::TrainingJobSpec& spec) {
  return llama_parameters(spec.model.size.value(), parts_of(spec), chunks_per_stage(spec.parallelism));
}

std::int64_t StageParameters::count_of(const Parameter& parameter) const {
  return parameter.name.starts_with("model.layers.") ? layers : 1;
}

StageParameters stage_parameters(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  contract::ModelSize one_layer = spec.model.size.value();
  const bool is_tied = one_layer.tieEmbeddings, is_last = stage + 1 == spec.parallelism.pipeline;
  const auto parts = parts_of(spec);
  StageParameters out;
  for (auto part = static_cast<std::size_t>(stage); part < parts.size();
       part += static_cast<std::size_t>(spec.parallelism.pipeline)) {
    out.layers += parts[part].last - parts[part].first;
  }
  one_layer.layers = 1;
  out.parameters = llama_parameters(one_layer, {{0, 1}});
  std::erase_if(out.parameters, [&](const Parameter& parameter) {
    if (parameter.name == "model.embed_tokens.weight") return stage > 0 && !(is_tied && is_last);
    return !is_last && !parameter.name.starts_with("model.layers.");
  });
  return out;
}

Range classes_of(std::int64_t vocabulary, std::int32_t tp, std::int32_t tp_rank) {
  const std::int64_t least = vocabulary / tp, left = vocabulary % tp;
  return {.first = least * tp_rank + std::min<std::int64_t>(tp_rank, left), .count = least + (tp_rank < left ? 1 : 0)};
}

Box box_of(const Parameter& parameter, std::int32_t tp, std::int32_t tp_rank) {
  Box box{.offsets = std::vector<std::int64_t>(parameter.shape.size(), 0), .sizes = parameter.shape};
  if (tp == 1 || !parameter.split_dim) return box;
  const auto dim = static_cast<std::size_t>(*parameter.split_dim);
  if (parameter.is_vocabulary) {
    const Range classes = classes_of(box.sizes[dim], tp, tp_rank);
    box.offsets[dim] = classes.first;
    box.sizes[dim] = classes.count;
    return box;
  }
  if (box.sizes[dim] % tp != 0) {
    throw std::invalid_argument("cut " + parameter.name + ": dimension " + std::to_string(dim) + " of size " +
                                std::to_string(box.sizes[dim]) + " does not divide by tensor " + std::to_string(tp));
  }
  box.sizes[dim] /= tp;
  box.offsets[dim] = box.sizes[dim] * tp_rank;
  return box;
}

std::int64_t num_elements(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>{});
}

}  // namespace trainyard::plan
