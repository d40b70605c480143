#include "worker/model/parameters.h"

#include <stdexcept>

#include <ATen/core/grad_mode.h>

#include "worker/model/initial_values.h"

namespace trainyard::model {
namespace {

at::ScalarType type_of(contract::ComputePrecision precision) {
  switch (precision) {
    case contract::ComputePrecision::kFP32: return at::kFloat;
    case contract::ComputePrecision::kFP16: return at::kHalf;
    case contract::ComputePrecision::kBF16:
    case contract::ComputePrecision::kFP8: break;  // FP8 is for matrix products alone
  }
  return at::kBFloat16;
}

}  // namespace

Parameters::Parameters(const contract::TrainingJobSpec& spec, mesh::Mesh& mesh)
    : layers_(spec.model.size.value().layers), compute_type_(type_of(spec.training.precision.compute)) {
  const auto& size = *spec.model.size;
  const auto& degrees = mesh.layout().degrees();
  std::vector<plan::Parameter> mine;
  for (const auto& global : plan::parameters_of(spec)) {
    if (global.is_on(mesh.at().pp)) mine.push_back(global);
  }
  const std::int32_t zero = plan::zero_stage(spec);
  const auto& offload = spec.parallelism.zero.offload;
  std::vector<plan::ShardUnit> units;
  if (zero > 0) units = plan::shard_units(mine, degrees.tp, mesh.at().tp, degrees.shard);
  std::vector<Gathered> gathered;
  const auto options = at::TensorOptions().dtype(at::kFloat).device(mesh.device());
  for (const auto& global : mine) {
    const plan::Box whole = plan::box_of(global, degrees.tp, mesh.at().tp);
    const plan::Box box = zero > 0 ? plan::shard_of(units, all_.size(), mesh.at().dp % degrees.shard) : whole;
    const at::Tensor data = zero == 3 ? without_memory(whole.sizes, options.dtype(compute_type_))
                                      : at::empty(whole.sizes, options.dtype(compute_type_));
    const auto mine_of_data = [&] { return data.narrow(0, box.offsets[0] - whole.offsets[0], box.sizes[0]); };
    at::Tensor master;
    if (offload.optimizer) {
      master = mesh.host().memory(box.sizes, at::kFloat);
      if (zero < 3) {
        weights_.push_back(mine_of_data());
      } else if (!offload.parameters) {
        weights_.push_back(at::empty(box.sizes, options.dtype(compute_type_)));
      } else {
        weights_.push_back(compute_type_ == at::kFloat ? master : mesh.host().memory(box.sizes, compute_type_));
      }
    } else {
      master = compute_type_ == at::kFloat && zero < 3 ? mine_of_data() : at::empty(box.sizes, options);
    }
    gathered.push_back({offload.optimizer ? weights_.back() : master, data});
    const bool tied = size.tieEmbeddings && global.name == "model.embed_tokens.weight";
    // detach() shares memory, so the two leaves of a tied embedding are one weight with two gradients.
    const int uses = tied && mesh.is_first_stage() && mesh.is_last_stage() ? 2 : 1;
    for (int i = 0; i < uses; ++i) leaves_.push_back({all_.size(), data.detach().requires_grad_()});
    all_.push_back({global, box, master});
  }
  if (zero == 0) return;
  sharded_ = std::make_unique<ShardedWeights>(std::move(units), std::move(gathered), zero < 3, mesh.shards(),
                                              offload.parameters ? &mesh.host() : nullptr);
}

void Parameters::initialize(std::int64_t seed) {
  for (auto& parameter : all_) fill_initial_values(parameter.master, parameter.global, parameter.box, seed, layers_);
  refresh();
}

void Parameters::refresh() {
  const at::NoGradGuard no_grad;
  if (!weights_.empty()) {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      if (!weights_[i].is_same(all_[i].master)) weights_[i].copy_(all_[i].master);
    }
  } else if (!sharded_ && compute_type_ != at::kFloat) {
    for (auto& leaf : leaves_) leaf.variable.copy_(all_[leaf.parameter].master);
  }
  gather();
}

void Parameters::gather() {
  if (sharded_) sharded_->refresh();
}

std::size_t Parameters::place_of(const std::string& name) const {
  for (std::size_t i = 0; i < all_.size(); ++i) {
    if (all_[i].global.name == name) return i;
  }
  throw std::out_of_range("find " + name + ": this stage does not hold it");
}

const at::Tensor& Parameters::variable(const std::string& name) const {
  for (const auto& leaf : leaves_) {
    if (all_[leaf.parameter].global.name == name) return leaf.variable;
  }
  throw std::out_of_range("find " + name + ": this stage does not hold it");
}

const at::Tensor& Parameters::head() const {
  const at::Tensor* tied = nullptr;
  for (const auto& leaf : leaves_) {
    const auto& name = all_[leaf.parameter].global.name;
    if (name == "lm_head.weight") return leaf.variable;
    if (name == "model.embed_tokens.weight") tied = &leaf.variable;  // of two leaves the second
  }
  if (tied == nullptr) throw std::out_of_range("find the head: this is not the last stage");
  return *tied;
}

}  // namespace trainyard::model
