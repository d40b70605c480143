#include "worker/trainer/engine.h"

#include <algorithm>
#include <cmath>

#include "worker/optim/learning_rate.h"
#include "worker/plan/deal.h"
#include "worker/plan/moments.h"
#include "worker/plan/parameters.h"

namespace trainyard::trainer {
namespace {

optim::GradientNorm norm_of(const contract::TrainingJobSpec& spec, const model::Parameters& parameters, mesh::Mesh& mesh) {
  const auto all = plan::parameters_of(spec);
  std::vector<optim::NormPart> parts;
  for (const auto& parameter : parameters.all()) {
    const auto at = std::find(all.begin(), all.end(), parameter.global);
    parts.push_back({.index = static_cast<std::size_t>(at - all.begin()), .box = parameter.box});
  }
  return {all,
          std::move(parts),
          mesh,
          spec.training.reduction,
          parameters.sharded() != nullptr,
          spec.parallelism.zero.offload.optimizer};
}

at::ScalarType states_of(const contract::TrainingJobSpec& spec) {
  switch (spec.training.precision.optimizerStates) {
    case contract::OptimizerStates::kFP32: break;
    case contract::OptimizerStates::kBF16: return at::kBFloat16;
    case contract::OptimizerStates::kBlockwise8Bit: return at::kByte;
  }
  return at::kFloat;
}

optim::AdamW optimizer_of(const contract::TrainingJobSpec& spec, const model::Parameters& parameters, mesh::Mesh& mesh) {
  std::vector<optim::Trained> trained;
  for (const auto& parameter : parameters.all()) {
    trained.push_back({.master = parameter.master,
                       .decays = parameter.global.decays,
                       .weight = {},
                       .segment = plan::moment_segment(spec.model.size.value(), parameter.global)});
  }
  const auto& offload = spec.parallelism.zero.offload;
  if (offload.optimizer) {
    for (std::size_t i = 0; i < trained.size(); ++i) {
      const auto& weight = parameters.weights()[i];
      if (!weight.is_same(trained[i].master)) trained[i].weight = weight;
    }
    return {spec.training.optimizer, std::move(trained), {.link = &mesh.host(), .weights = offload.parameters}, states_of(spec)};
  }
  // Where leaves are copies of their masters, each of the whole: a tied embedding's two share one.
  if (parameters.compute_type() != at::kFloat && parameters.sharded() == nullptr) {
    for (const auto& leaf : parameters.leaves()) {
      const at::Tensor weight = leaf.variable.detach();
      auto& each = trained[leaf.parameter];
      if (weight.sizes() == each.master.sizes() && weight.is_contiguous()) each.weight = weight;
    }
  }
  return {spec.training.optimizer, std::move(trained), states_of(spec)};
}

}  // namespace

Engine::Engine(const contract::TrainingJobSpec& spec, mesh::Mesh& mesh, std::int64_t steps)
    : spec_(spec),
      mesh_(mesh),
      steps_(steps),
      parameters_(spec, mesh),
      chunks_(model::llama_chunks(spec, parameters_, mesh)),
      runner_(spec, parameters_, chunks_, mesh),
      norm_(norm_of(spec, parameters_, mesh)),
      optimizer_(optimizer_of(spec, parameters_, mesh)) {}

void Engine::initialize() {
  parameters_.initialize(spec_.training.seed);
  optimizer_.set_steps(0);
  state_ = {};
  begin_loss_scale();
}

void Engine::resume(const EngineState& state) {
  parameters_.refresh();
  optimizer_.set_steps(state.steps - state.skipped);
  state_ = state;
  state_.skipped_in_a_row = 0;  // whoever resumes may have changed what it came from
  begin_loss_scale();
}

/// Another precision than that of the checkpoint may be asked for.
void Engine::begin_loss_scale() {
  if (spec_.training.precision.compute != contract::ComputePrecision::kFP16) {
    state_.loss_scale.reset();
  } else if (!state_.loss_scale) {
    state_.loss_scale.emplace();
  }
}

StepMetrics Engine::step(schedule::StepInput input) {
  auto& loss_scale = state_.loss_scale;
  if (loss_scale) input.loss_scale = loss_scale->scale;
  gradients_.clear();  // the last step's: no more room than one step's is taken
  auto result = runner_.run(input);
  gradients_ = std::move(result.gradients);
  if (loss_scale) optim::scale(gradients_, optim::inverse(*loss_scale));
  StepMetrics metrics;
  const auto measured = norm_.measure(gradients_, result.loss);
  metrics.loss = measured.loss;
  metrics.gradient_norm = measured.norm;
  metrics.learning_rate = optim::learning_rate(spec_.training, steps_done() + 1, steps_);
  metrics.skipped = !std::isfinite(metrics.gradient_norm);
  ++state_.steps;
  if (loss_scale) *loss_scale = optim::after_step(*loss_scale, metrics.skipped);
  if (metrics.skipped) {
    ++state_.skipped;
    ++state_.skipped_in_a_row;
    return metrics;
  }
  state_.skipped_in_a_row = 0;
  const mesh::Timeline::Span span(mesh_.timeline(), mesh::Work::kOptimizer);
  const auto& clipping = spec_.training.gradientClipping;
  optimizer_.step(gradients_, metrics.learning_rate,
                  clipping ? optim::clip_coefficient(metrics.gradient_norm, clipping->maxNorm) : 1.0);
  if (optimizer_.writes_weights()) {
    parameters_.gather();
  } else {
    parameters_.refresh();
  }
  return metrics;
}

std::vector<checkpoint::TensorShard> Engine::shards() const {
  const auto& at = mesh_.at();
  // Data-parallel replicas hold the same boxes: each writes some, by size, since a save takes as long as its slowest writer.
  std::vector<std::int64_t> sizes;
  for (const auto& parameter : parameters_.all()) sizes.push_back(plan::num_elements(parameter.box.sizes));
  const auto& degrees = mesh_.layout().degrees();
  const std::int32_t sharing = parameters_.sharded() != nullptr ? degrees.shard : 1;
  const auto writers = plan::deal_by_size(sizes, degrees.dp / sharing);
  std::vector<checkpoint::TensorShard> shards;
  for (std::size_t i = 0; i < parameters_.all().size(); ++i) {
    const auto& [global, box, master] = parameters_.all()[i];
    const bool writes = writers[i] == at.dp / sharing && global.owner() == at.pp && (global.split_dim || at.tp == 0);
    const auto add = [&, &name = global.name, &shape = global.shape, &offsets = box.offsets](const std::string& prefix,
                                                                                             const at::Tensor& local) {
      shards.push_back({.name = prefix + name, .local = local, .global_shape = shape, .offset = offsets, .writes = writes});
    };
    const std::int64_t segment = plan::moment_segment(spec_.model.size.value(), global);
    const auto add_moment = [&, &name = global.name](bool is_signed, const std::string& what, const at::Tensor& local,
                                                     const at::Tensor& scales) {
      add(what + ".", local);
      if (segment == 0) return;
      shards.back().codes = checkpoint::Codes{
          .is_signed = is_signed, .segment = segment, .scales_name = what + "_absmax." + name, .scales = scales};
    };
    add("", master);
    add_moment(true, "optimizer.exp_avg", optimizer_.averages()[i], optimizer_.average_scales()[i]);
    add_moment(false, "optimizer.exp_avg_sq", optimizer_.squares()[i], optimizer_.square_scales()[i]);
  }
  return shards;
}

}  // namespace trainyard::trainer
