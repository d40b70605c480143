#pragma once
// The parameters of a Llama: names and shapes as Hugging Face has them, who owns them, how tensor parallelism cuts them. The model,
// its initial values, the optimizer and the checkpoints all go by this one table.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/job.h"
#include "worker/plan/stages.h"

namespace trainyard::plan {

/// How a parameter starts; values are functions of (seed, name, global index of the element), see worker/model/initial_values.h.
enum class Initial {
  kNormal,          // normal, standard deviation 0.02
  kResidualNormal,  // normal, 0.02 / sqrt(2 · layers): the outputs that are added to the residual stream, as GPT-2 does
  kOnes             // the weights of norms
};

struct Parameter {
  std::string name;                 // model.layers.0.self_attn.q_proj.weight
  std::vector<std::int64_t> shape;  // of the whole tensor, as in a checkpoint
  Initial initial = Initial::kNormal;
  bool decays = true;                     // weight decay: matrices decay, norms do not
  std::optional<std::int64_t> split_dim;  // the dimension that tensor parallelism cuts into parts; nothing: whole on each rank
  std::vector<std::int32_t> stages;       // who holds it, its owner first; two for a tied embedding in a pipeline
  std::vector<std::int32_t> chunks;       // in which chunk of each of these stages
  bool is_vocabulary = false;             // its rows are classes, which tensor parallelism cuts into parts of any size

  bool is_on(std::int32_t stage) const;
  /// The chunk of `stage` that has it. Throws std::invalid_argument where none has.
  std::int32_t chunk_on(std::int32_t stage) const;
  std::int32_t owner() const { return stages.front(); }
  bool operator==(const Parameter&) const = default;
};

/// A rectangular part of a tensor: one offset and one size a dimension.
struct Box {
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> sizes;
  bool operator==(const Box&) const = default;
};

/// All parameters of the model, in name order (that of std::string), when a stage holds `chunks` of its parts. With tieEmbeddings there
/// is no lm_head.weight: the head is model.embed_tokens.weight, which the last stage then holds too.
std::vector<Parameter> llama_parameters(const contract::ModelSize& size, const std::vector<LayerRange>& parts,
                                        std::int32_t chunks = 1);

/// All parameters of a job's model, cut for its pipeline.
std::vector<Parameter> parameters_of(const contract::TrainingJobSpec& spec);

/// What a pipeline stage has, of its layers one, since all are alike: for what is summed over them.
struct StageParameters {
  std::vector<Parameter> parameters;  // in name order
  std::int64_t layers = 0;            // that the stage has
  /// Of so many equal parameters of the stage this is one.
  std::int64_t count_of(const Parameter& parameter) const;
};
/// Of a job's model. Cost: that of a model of one layer.
StageParameters stage_parameters(const contract::TrainingJobSpec& spec, std::int32_t stage);

/// A part of consecutive rows, classes or the like.
struct Range {
  std::int64_t first = 0, count = 0;
};

/// The classes of the vocabulary that rank `tp_rank` of `tp` holds: sizes differ by at most one, the first ranks have the larger parts. (Megatron-LM
/// fills the vocabulary up to a multiple instead; then a checkpoint's shape depends on the layout.)
Range classes_of(std::int64_t vocabulary, std::int32_t tp, std::int32_t tp_rank);

/// The part of `parameter` that rank `tp_rank` of `tp` holds. Throws std::invalid_argument where the dimension does not divide, but for that
/// of the vocabulary.
Box box_of(const Parameter& parameter, std::int32_t tp, std::int32_t tp_rank);

std::int64_t num_elements(const std::vector<std::int64_t>& shape);

}  // namespace trainyard::plan
