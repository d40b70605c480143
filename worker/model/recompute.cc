#include "worker/model/recompute.h"

#include <memory>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include "worker/model/saved_tensors.h"

namespace trainyard::model {
namespace {

/// What a list of kept tensors knows one by. The weak reference keeps the storage's address from being given to another, though not its
/// memory; two views of the same elements are one tensor here.
struct Identity {
  explicit Identity(const at::Tensor& tensor)
      : storage(tensor.storage().getWeakStorageImpl()),
        address(tensor.storage().unsafeGetStorageImpl()),
        offset(tensor.storage_offset()),
        sizes(tensor.sizes().vec()),
        strides(tensor.strides().vec()),
        type(tensor.scalar_type()) {}
  bool operator==(const Identity& other) const {
    return address == other.address && offset == other.offset && sizes == other.sizes && strides == other.strides &&
           type == other.type;
  }

  c10::weak_intrusive_ptr<c10::StorageImpl> storage;
  const c10::StorageImpl* address;
  std::int64_t offset;
  std::vector<std::int64_t> sizes, strides;
  at::ScalarType type;
};

/// Numbers the tensors that pass it, each once.
class Places {
 public:
  std::size_t place_of(const at::Tensor& tensor) {
    Identity identity(tensor);
    for (std::size_t place = known_.size(); place-- > 0;) {
      if (known_[place] == identity) return place;
    }
    known_.push_back(std::move(identity));
    return known_.size() - 1;
  }
  std::size_t size() const { return known_.size(); }

 private:
  std::vector<Identity> known_;
};

/// One run of a block in the forward pass, and what backward computes of it again.
class Run {
 public:
  /// `around`: the keeper of the thread, which then keeps the inputs.
  Run(Block block, const Tensors& inputs, Keeper* around) : block_(std::move(block)) {
    for (const auto& input : inputs) {
      const at::Tensor kept = input.detach();
      inputs_.push_back(around == nullptr ? keep_here(kept) : around->keep(kept));
      requires_grad_.push_back(input.requires_grad());
    }
  }

  std::size_t keep(const at::Tensor& tensor) {
    const std::size_t place = places_.place_of(tensor);
    users_.resize(places_.size(), 0);
    ++users_[place];
    return place;
  }
  void forget(std::size_t place) {
    if (--users_[place] == 0 && !again_.empty()) again_[place].reset();
  }
  at::Tensor get(std::size_t place) {
    if (again_.empty()) run_again();
    return again_.at(place);
  }
  /// Whether all that was kept in the forward pass has come again.
  bool is_full() const { return again_.size() == users_.size(); }
  void collect(const at::Tensor& tensor) {
    const std::size_t place = places_again_.place_of(tensor);
    if (place == again_.size()) again_.push_back(tensor.detach());
  }

 private:
  void run_again();

  Block block_;
  std::vector<std::unique_ptr<Kept>> inputs_;
  std::vector<bool> requires_grad_;
  Places places_, places_again_;
  std::vector<std::int32_t> users_;  // by place: how many nodes of the graph keep it
  Tensors again_;                    // by place; empty before backward has asked for one
};

/// Ends a block's second run where nothing more is needed of it.
struct EverythingHasComeAgain {};

/// A block runs within no other.
struct KeeperOfABlock : Keeper {
  std::unique_ptr<Kept> keep(const at::Tensor& /*tensor*/) override {
    TORCH_CHECK(false, "a block that is computed again runs within no other");
  }
  void keep_first(const at::Tensor& tensor) override { hooks()->call_pack_hook(tensor); }
};

/// Of the forward pass: a place in the list instead of the tensor.
struct PlaceInstead : torch::autograd::SavedVariableHooks {
  explicit PlaceInstead(std::shared_ptr<Run> of) : run(std::move(of)) {}
  ~PlaceInstead() override {
    if (kept) run->forget(place);
  }
  void call_pack_hook(const at::Tensor& tensor) override {
    place = run->keep(tensor);
    kept = true;
  }
  at::Tensor call_unpack_hook() override { return run->get(place); }

  std::shared_ptr<Run> run;
  std::size_t place = 0;
  bool kept = false;
};
struct Forget : KeeperOfABlock {
  explicit Forget(std::shared_ptr<Run> of) : run(std::move(of)) {}
  std::unique_ptr<torch::autograd::SavedVariableHooks> hooks() override { return std::make_unique<PlaceInstead>(run); }
  std::shared_ptr<Run> run;
};

/// Of the second run, whose graph nobody goes through.
struct CollectInstead : torch::autograd::SavedVariableHooks {
  explicit CollectInstead(Run& of) : run(of) {}
  void call_pack_hook(const at::Tensor& tensor) override {
    run.collect(tensor);
    if (run.is_full()) throw EverythingHasComeAgain{};
  }
  at::Tensor call_unpack_hook() override { TORCH_CHECK(false, "the second run of a block has no backward pass"); }
  Run& run;
};
struct Collect : KeeperOfABlock {
  explicit Collect(Run& of) : run(of) {}
  std::unique_ptr<torch::autograd::SavedVariableHooks> hooks() override { return std::make_unique<CollectInstead>(run); }
  Run& run;
};

void Run::run_again() {
  const at::AutoGradMode recording(true);
  Tensors inputs;
  for (std::size_t i = 0; i < inputs_.size(); ++i) inputs.push_back(inputs_[i]->get().detach().requires_grad_(requires_grad_[i]));
  Collect collect(*this);
  try {
    const WithKeeper scope(&collect);
    block_(inputs);
  } catch (const EverythingHasComeAgain&) {
  }
  TORCH_CHECK(is_full(), "compute a block again: it kept ", users_.size(), " tensors at first and ", again_.size(), " then");
}

}  // namespace

void keep_first(const at::Tensor& tensor) {
  if (auto* const keeper = keeper_of_this_thread()) keeper->keep_first(tensor);
}

Tensors recomputed(const Block& block, const Tensors& inputs) {
  if (!at::GradMode::is_enabled()) return block(inputs);
  allow_keepers();
  Forget forget(std::make_shared<Run>(block, inputs, keeper_of_this_thread()));
  const WithKeeper scope(&forget);
  return block(inputs);
}

}  // namespace trainyard::model
