#include "worker/model/saved_tensors.h"

#include <torch/csrc/autograd/engine.h>

namespace trainyard::model {
namespace {

thread_local Keeper* keeper = nullptr;

/// LibTorch asks its engine for the hooks of a tensor that is to be kept; Python's engine answers so too.
class HookingEngine : public torch::autograd::Engine {
 public:
  std::unique_ptr<torch::autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    return keeper == nullptr ? nullptr : keeper->hooks();
  }
};
torch::autograd::Engine& hooking_engine() {
  static HookingEngine engine;
  return engine;
}

struct KeptHere : Kept {
  explicit KeptHere(at::Tensor which) : tensor(std::move(which)) {}
  at::Tensor get() override { return tensor; }
  at::Tensor tensor;
};

}  // namespace

std::unique_ptr<Kept> keep_here(const at::Tensor& tensor) { return std::make_unique<KeptHere>(tensor); }

Keeper* keeper_of_this_thread() { return keeper; }

WithKeeper::WithKeeper(Keeper* next) : before_(std::exchange(keeper, next)) {}
WithKeeper::~WithKeeper() { keeper = before_; }

void allow_keepers() { torch::autograd::set_default_engine_stub(&hooking_engine); }

}  // namespace trainyard::model
