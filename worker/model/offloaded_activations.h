#pragma once
// Keeps what backward needs of each layer in the host's memory: copied down while the next layers are computed, and brought up again a
// layer ahead of backward. It works by the hooks of saved tensors (saved_tensors.h), so the model knows nothing of it, and autograd's
// graph and the numbers stay what they are. As torch.autograd.graph.save_on_cpu and torchtune's OffloadActivations.
//
//   forward   layer 1 │ layer 2       │ layer 3             │ …   a layer's tensors leave the device when the next but one begins
//   down              │ of 1          │ of 2                │
//   backward                  … │ layer 3 │ layer 2 │ layer 1     its first tensor that is asked for brings up all of the one before
//   up                          │ of 2    │ of 1    │

#include <functional>
#include <memory>

#include <ATen/ATen.h>

#include "worker/mesh/host_link.h"

namespace trainyard::model {

/// Lives on the training thread, and in backward on the thread of autograd while that one waits.
class OffloadedActivations {
 public:
  /// Tensors below this stay where they are: a copy costs more than it frees.
  static constexpr std::int64_t kSmallest = 1024;  // bytes; as torchtune
  /// `link` must outlive every graph.
  explicit OffloadedActivations(mesh::HostLink& link);
  ~OffloadedActivations();
  OffloadedActivations(OffloadedActivations&&) noexcept;

  /// These stay: they are there anyway, as weights are.
  void leave_alone(const at::Tensor& tensor);

  /// layer(), of which what autograd keeps, and what blocks that are computed again keep, goes to the host. `is_first`: it does not follow
  /// the last call's layer. Where no gradients are recorded, just layer().
  at::Tensor run(bool is_first, const std::function<at::Tensor()>& layer);

 private:
  struct State;
  struct Up;
  class Layer;
  class Elements;
  struct KeptThere;
  struct Hooks;

  std::shared_ptr<State> state_;
  std::shared_ptr<Layer> last_;
};

}  // namespace trainyard::model
