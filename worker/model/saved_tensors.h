#pragma once
// What becomes of the tensors that autograd wants to keep for the backward pass: every one passes the keeper of the thread, where it
// has one.

#include <memory>
#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

namespace trainyard::model {

/// A tensor that is kept for the backward pass, somehow.
class Kept {
 public:
  virtual ~Kept() = default;
  virtual at::Tensor get() = 0;
};

/// As autograd does where nobody says anything else: itself.
std::unique_ptr<Kept> keep_here(const at::Tensor& tensor);

class Keeper {
 public:
  virtual ~Keeper() = default;
  /// Of one tensor that autograd keeps.
  virtual std::unique_ptr<torch::autograd::SavedVariableHooks> hooks() = 0;
  /// Keeps the input of a block that is computed again. Throws c10::Error where no such block may run.
  virtual std::unique_ptr<Kept> keep(const at::Tensor& tensor) = 0;
  /// See keep_first() of recompute.h.
  virtual void keep_first(const at::Tensor& /*tensor*/) {}
};

/// Null where autograd keeps tensors as it always does.
Keeper* keeper_of_this_thread();

class WithKeeper {
 public:
  explicit WithKeeper(Keeper* keeper);
  ~WithKeeper();
  WithKeeper(const WithKeeper&) = delete;
  WithKeeper& operator=(const WithKeeper&) = delete;

 private:
  Keeper* before_;
};

/// To be called before the first backward pass of the process: LibTorch starts its threads for GPUs once, for the engine that runs
/// first, and keepers need one that asks for hooks.
void allow_keepers();

}  // namespace trainyard::model
