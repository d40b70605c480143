#include "worker/model/parameters.h"

#include <stdexcept>

#include <ATen/core/grad_mode.h>

#include "worker/model/initial_values.h"

namespace trainyard::model {

Parameters::Parameters(const contract::TrainingJobSpec& spec, const mesh::Mesh& mesh)
    : layers_(spec.model.size.value().layers),
      compute_type_(spec.training.precision.compute == contract::ComputePrecision::kBF16 ? at::kBFloat16 : at::kFloat) {
  const auto& size = *spec.model.size;
  const auto& degrees = mesh.layout().degrees();
  for (const auto& global : plan::parameters_of(spec)) {
    if (!global.is_on(mesh.at().pp)) continue;
    const plan::Box box = plan::box_of(global, degrees.tp, mesh.at().tp);
    const at::Tensor master = at::empty(box.sizes, at::TensorOptions().dtype(at::kFloat).device(mesh.device()));
    const at::Tensor data = compute_type_ == at::kFloat ? master : at::empty_like(master, compute_type_);
    const bool tied = size.tieEmbeddings && global.name == "model.embed_tokens.weight";
    // detach() shares memory, so the two leaves of a tied embedding are one weight with two gradients.
    const int uses = tied && mesh.is_first_stage() && mesh.is_last_stage() ? 2 : 1;
    for (int i = 0; i < uses; ++i) leaves_.push_back({all_.size(), data.detach().requires_grad_()});
    all_.push_back({global, box, master});
  }
}

void Parameters::initialize(std::int64_t seed) {
  for (auto& parameter : all_) fill_initial_values(parameter.master, parameter.global, parameter.box, seed, layers_);
  refresh();
}

void Parameters::refresh() {
  if (compute_type_ == at::kFloat) return;
  const at::NoGradGuard no_grad;
  for (auto& leaf : leaves_) leaf.variable.copy_(all_[leaf.parameter].master);
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
