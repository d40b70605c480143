#include "worker/model/sharded_weights.h"

#include <stdexcept>
#include <utility>

#include <torch/torch.h>

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The same storage, without a part in the graph: what is written here is no change that autograd would refuse. Its values are those that
/// forward saw.
at::Tensor outside_the_graph(const at::Tensor& variable) { return variable.variable_data(); }

void give_memory(const at::Tensor& variable) {
  auto& storage = variable.unsafeGetTensorImpl()->unsafe_storage();
  const auto bytes = static_cast<std::size_t>(variable.numel()) * variable.element_size();
  if (storage.nbytes() == bytes) return;  // a tied embedding's two variables share one storage
  storage.set_data_ptr_noswap(storage.allocator()->allocate(bytes));
  storage.unsafeGetStorageImpl()->set_nbytes(bytes);
}

void take_memory(const at::Tensor& variable) {
  auto& storage = variable.unsafeGetTensorImpl()->unsafe_storage();
  storage.set_data_ptr_noswap(at::DataPtr(nullptr, variable.device()));
  storage.unsafeGetStorageImpl()->set_nbytes(0);
}

}  // namespace

/// A gathering on its way.
struct ShardedWeights::Flight {
  Flight() = default;
  ~Flight() {
    try {
      if (crossing) crossing->wait_on_device();  // nobody came for it: what it copies to is used for something else next
    } catch (const std::exception& error) {
      TORCH_WARN("leave the weights that were on their way: ", error.what());
    }
  }
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;
  void wait() {
    if (const auto from_host = std::exchange(crossing, nullptr)) from_host->wait_on_device();
    pending->wait();
  }

  at::Tensor part, whole;
  std::unique_ptr<mesh::Crossing> crossing;  // from the host; null where shards are on the device
  std::unique_ptr<mesh::Pending> pending;
};

struct ShardedWeights::Held {
  bool whole = false;
  std::unique_ptr<Flight> flight;
};

ShardedWeights::ShardedWeights(std::vector<plan::ShardUnit> units, std::vector<Gathered> weights, bool keeps, mesh::Comm& data,
                               mesh::HostLink* host)
    : units_(std::move(units)), weights_(std::move(weights)), keeps_(keeps), data_(data), host_(host), held_(units_.size()) {}

ShardedWeights::~ShardedWeights() = default;

std::size_t ShardedWeights::unit_of(std::size_t parameter) const {
  for (std::size_t unit = 0; unit < units_.size(); ++unit) {
    for (const auto place : units_[unit].parameters) {
      if (place == parameter) return unit;
    }
  }
  throw std::out_of_range("find the unit of parameter " + std::to_string(parameter));
}

void ShardedWeights::start(std::size_t unit) {
  const at::NoGradGuard no_grad;
  auto& held = held_[unit];
  if (held.whole || held.flight) return;
  auto flight = std::make_unique<Flight>();
  const auto options = weights_[units_[unit].parameters.front()].variable.options().requires_grad(false);
  flight->part = at::empty({units_[unit].part_elements}, options);
  flight->whole = at::empty({units_[unit].part_elements * data_.size()}, options);
  const auto gather = [this, unit, &to = *flight] {
    pack(unit, to.part);
    to.pending = data_.start_all_gather(to.whole, to.part);
  };
  if (host_ == nullptr) {
    gather();
  } else {
    // The gathering waits for the copies, and what the device computes meanwhile for neither.
    flight->crossing = host_->start(mesh::Way::kUp, gather);
  }
  held.flight = std::move(flight);
}

/// This rank's shards of a unit, one behind the other.
void ShardedWeights::pack(std::size_t unit, const at::Tensor& part) const {
  std::int64_t first = 0;
  for (const auto place : units_[unit].parameters) {
    const auto& shard = weights_[place].shard;
    part.narrow(0, first, shard.numel()).copy_(shard.view({-1}), /*non_blocking=*/true);
    first += shard.numel();
  }
}

void ShardedWeights::finish(std::size_t unit) {
  const at::NoGradGuard no_grad;
  auto& held = held_[unit];
  if (!held.flight) return;
  const auto flight = std::move(held.flight);
  flight->wait();
  const auto& shards = units_[unit];
  for (std::size_t i = 0; i < shards.parameters.size(); ++i) {
    const auto& variable = weights_[shards.parameters[i]].variable;
    if (!keeps_) give_memory(variable);
  }
  std::vector<std::int64_t> next_row(shards.parameters.size(), 0);
  for (std::int32_t rank = 0; rank < shards.data_ranks(); ++rank) {
    std::int64_t first = rank * shards.part_elements;
    const auto boxes = shards.boxes(rank);
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      const auto& sizes = boxes[i].sizes;
      const std::int64_t count = plan::num_elements(sizes);
      if (count == 0) continue;
      at::Tensor rows = outside_the_graph(weights_[shards.parameters[i]].variable).narrow(0, next_row[i], sizes[0]);
      rows.copy_(flight->whole.narrow(0, first, count).view(sizes));
      next_row[i] += sizes[0];
      first += count;
    }
  }
  held.whole = true;
}

void ShardedWeights::refresh() {
  if (!keeps_) {
    for (std::size_t unit = 0; unit < units_.size(); ++unit) release(unit);
    return;
  }
  if (data_.size() == 1) return;  // a rank alone, which is here for what it offloads: its shards are the variables themselves
  for (auto& held : held_) held.whole = false;
  for (std::size_t unit = 0; unit < units_.size(); ++unit) {
    start(unit);
    if (unit > 0) finish(unit - 1);
  }
  finish(units_.size() - 1);
}

void ShardedWeights::need(std::size_t unit, std::int64_t next) {
  start(unit);
  if (next >= 0) start(static_cast<std::size_t>(next));
  finish(unit);
}

void ShardedWeights::release(std::size_t unit) {
  auto& held = held_[unit];
  if (held.flight) held.flight->wait();  // what is under way cannot be called back
  held.flight.reset();
  held.whole = false;
  for (const auto place : units_[unit].parameters) take_memory(weights_[place].variable);
}

namespace {

/// The weights outlive every graph that they are used in.
struct Place : torch::CustomClassHolder {
  Place(ShardedWeights* of, std::size_t which, std::int64_t before) : weights(of), unit(which), next(before) {}
  ShardedWeights* weights;
  std::size_t unit;
  std::int64_t next;
};

void keep_place(AutogradContext* context, const c10::intrusive_ptr<Place>& place) {
  context->saved_data["place"] = c10::IValue::make_capsule(place);
}
c10::intrusive_ptr<Place> kept_place(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<Place>(context->saved_data["place"].toCapsule());
}

struct EnterUnit : torch::autograd::Function<EnterUnit> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const c10::intrusive_ptr<Place>& place) {
    keep_place(context, place);
    return x.view_as(x);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto place = kept_place(context);
    place->weights->release(place->unit);
    return {gradients[0], {}};
  }
};

struct LeaveUnit : torch::autograd::Function<LeaveUnit> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const c10::intrusive_ptr<Place>& place) {
    keep_place(context, place);
    return x.view_as(x);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto place = kept_place(context);
    place->weights->need(place->unit, place->next);
    return {gradients[0], {}};
  }
};

}  // namespace

UnitUses::UnitUses(ShardedWeights& weights, std::vector<std::size_t> units, bool looks_up)
    : weights_(weights.keeps() ? nullptr : &weights), units_(std::move(units)), looks_up_(looks_up) {}

std::int64_t UnitUses::next_in_forward(std::size_t use) const {
  return use + 1 < units_.size() ? static_cast<std::int64_t>(units_[use + 1]) : -1;
}

void UnitUses::before_look_up() const {
  if (weights_ != nullptr) weights_->need(units_.front(), next_in_forward(0));
}

void UnitUses::after_look_up() const {
  if (weights_ != nullptr) weights_->release(units_.front());
}

at::Tensor UnitUses::enter(const at::Tensor& x, std::size_t use) const {
  if (weights_ == nullptr) return x;
  weights_->need(units_.at(use), next_in_forward(use));
  return EnterUnit::apply(x, c10::make_intrusive<Place>(weights_, units_[use], -1));
}

at::Tensor UnitUses::leave(const at::Tensor& x, std::size_t use) const {
  if (weights_ == nullptr) return x;
  const std::int64_t next = use > first() ? static_cast<std::int64_t>(units_[use - 1]) : -1;
  at::Tensor out = LeaveUnit::apply(x, c10::make_intrusive<Place>(weights_, units_.at(use), next));
  weights_->release(units_[use]);
  return out;
}

at::Tensor without_memory(const std::vector<std::int64_t>& sizes, const at::TensorOptions& options) {
  at::Tensor tensor = at::empty({0}, options);
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return tensor;
}

}  // namespace trainyard::model
