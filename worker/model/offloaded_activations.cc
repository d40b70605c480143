#include "worker/model/offloaded_activations.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include "worker/model/saved_tensors.h"
#include "worker/plan/offload_cost.h"

namespace trainyard::model {

/// A layer's way up again.
struct OffloadedActivations::Up {
  explicit Up(std::unique_ptr<mesh::Crossing> way) : crossing(std::move(way)) {}
  void wait_on_device() {
    if (!std::exchange(is_awaited, true)) crossing->wait_on_device();
  }
  std::unique_ptr<mesh::Crossing> crossing;
  bool is_awaited = false;
};

/// What all layers have in common.
struct OffloadedActivations::State {
  explicit State(mesh::HostLink& way) : link(way) {}
  mesh::HostLink& link;
  std::vector<at::Storage> stay;
  std::deque<std::weak_ptr<Layer>> on_device;  // whose copies down may be under way, the oldest first
  std::shared_ptr<Up> last_up;
};

/// Consecutive elements that were kept, once however many views of them were. On the device until the copy is down, and again for backward.
class OffloadedActivations::Elements {
 public:
  Elements(const at::Tensor& flat, mesh::HostLink& link)
      : origin_(flat.storage().getWeakStorageImpl()),
        address_(flat.storage().unsafeGetStorageImpl()),
        first_(flat.storage_offset()),
        device_(flat),
        host_(link.passing_memory(flat.sizes(), flat.scalar_type())) {
    down_ = link.start(mesh::Way::kDown, [from = device_, to = host_] { to.copy_(from, /*non_blocking=*/true); });
  }
  ~Elements() {
    try {
      let_go();                        // the graph was gone before the copy was down,
      if (up_) up_->wait_on_device();  // or up
    } catch (const c10::Error& error) {
      TORCH_WARN("leave a kept tensor: ", error.what_without_backtrace());
    }
  }
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;

  bool is(const at::Tensor& flat) const {
    return address_ == flat.storage().unsafeGetStorageImpl() && first_ == flat.storage_offset() &&
           host_.numel() == flat.numel() && host_.scalar_type() == flat.scalar_type();
  }
  /// The device's memory may be used again for what is computed from now on.
  void let_go() {
    if (const auto down = std::exchange(down_, nullptr)) down->wait_on_device();
    if (!up_) device_.reset();
  }
  void come_by(std::shared_ptr<Up> up) { up_ = std::move(up); }
  /// Where they are only on the host: room on the device, to be filled.
  bool make_room(at::Device device) {
    if (device_.defined()) return false;
    device_ = at::empty(host_.sizes(), host_.options().device(device).pinned_memory(false));
    return true;
  }
  const at::Tensor& device() const { return device_; }
  const at::Tensor& host() const { return host_; }

 private:
  // The weak reference keeps the address from being given to another storage, though not the memory.
  c10::weak_intrusive_ptr<c10::StorageImpl> origin_;
  const c10::StorageImpl* address_;
  std::int64_t first_;
  at::Tensor device_, host_;
  std::unique_ptr<mesh::Crossing> down_;
  std::shared_ptr<Up> up_;
};

/// What is kept of one layer's forward. Its tensors live as long as the graph needs each.
class OffloadedActivations::Layer final : public Keeper, public std::enable_shared_from_this<Layer> {
 public:
  Layer(std::shared_ptr<State> state, std::shared_ptr<Layer> before) : state_(std::move(state)), before_(std::move(before)) {}

  std::unique_ptr<torch::autograd::SavedVariableHooks> hooks() override;
  std::unique_ptr<Kept> keep(const at::Tensor& tensor) override;

  /// The layer's tensors leave the device, unless backward has come to it.
  void let_go() {
    if (is_wanted_) return;
    for (const auto& elements : living()) elements->let_go();
  }

  /// Backward asks for a tensor of the layer.
  void need() {
    bring_up();
    if (const auto before = std::exchange(before_, nullptr)) before->bring_up();
    // In a pipeline the layers of another micro-batch may have come last. Those that backward has come to stay.
    for (const auto& weak : std::exchange(state_->on_device, {})) {
      if (const auto layer = weak.lock()) layer->let_go();
    }
    if (up_) up_->wait_on_device();
  }

 private:
  std::vector<std::shared_ptr<Elements>> living() const {
    std::vector<std::shared_ptr<Elements>> all;
    for (const auto& weak : kept_) {
      if (auto elements = weak.lock()) all.push_back(std::move(elements));
    }
    return all;
  }
  bool stays(const at::Tensor& tensor) const {
    return static_cast<std::int64_t>(tensor.nbytes()) < kSmallest || !tensor.is_non_overlapping_and_dense() ||
           std::any_of(state_->stay.begin(), state_->stay.end(), [&](const at::Storage& storage) {
             return storage.unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl();
           });
  }
  void bring_up() {
    if (std::exchange(is_wanted_, true)) return;
    std::vector<std::shared_ptr<Elements>> away;
    std::vector<std::pair<at::Tensor, at::Tensor>> copies;
    for (const auto& elements : living()) {
      if (!elements->make_room(device_)) continue;
      away.push_back(elements);
      copies.emplace_back(elements->device(), elements->host());
    }
    if (copies.empty()) return;
    up_ = std::make_shared<Up>(state_->link.start(mesh::Way::kUp, [copies] {
      for (const auto& [to, from] : copies) to.copy_(from, /*non_blocking=*/true);
    }));
    for (const auto& elements : away) elements->come_by(up_);
    state_->last_up = up_;
  }

  std::shared_ptr<State> state_;
  std::shared_ptr<Layer> before_;  // in forward; until its tensors are on their way up
  std::vector<std::weak_ptr<Elements>> kept_;
  at::Device device_ = at::kCPU;  // of what was kept
  bool is_wanted_ = false;
  std::shared_ptr<Up> up_;
};

struct OffloadedActivations::KeptThere : Kept {
  KeptThere(std::shared_ptr<Layer> of, std::shared_ptr<Elements> which, const at::Tensor& tensor)
      : layer(std::move(of)), elements(std::move(which)), sizes(tensor.sizes().vec()), strides(tensor.strides().vec()) {}
  at::Tensor get() override {
    const at::NoGradGuard no_grad;
    layer->need();
    return elements->device().as_strided(sizes, strides, elements->device().storage_offset());
  }
  std::shared_ptr<Layer> layer;
  std::shared_ptr<Elements> elements;
  std::vector<std::int64_t> sizes, strides;
};

struct OffloadedActivations::Hooks : torch::autograd::SavedVariableHooks {
  explicit Hooks(std::shared_ptr<Layer> of) : layer(std::move(of)) {}
  void call_pack_hook(const at::Tensor& tensor) override { kept = layer->keep(tensor); }
  at::Tensor call_unpack_hook() override { return kept->get(); }
  std::shared_ptr<Layer> layer;
  std::unique_ptr<Kept> kept;
};

std::unique_ptr<torch::autograd::SavedVariableHooks> OffloadedActivations::Layer::hooks() {
  return std::make_unique<Hooks>(shared_from_this());
}

std::unique_ptr<Kept> OffloadedActivations::Layer::keep(const at::Tensor& tensor) {
  if (stays(tensor)) return keep_here(tensor);
  const at::NoGradGuard no_grad;
  device_ = tensor.device();
  const at::Tensor flat = tensor.as_strided({tensor.numel()}, {1}, tensor.storage_offset());
  for (const auto& known : living()) {
    if (known->is(flat)) return std::make_unique<KeptThere>(shared_from_this(), known, tensor);
  }
  const auto elements = std::make_shared<Elements>(flat, state_->link);
  kept_.push_back(elements);
  return std::make_unique<KeptThere>(shared_from_this(), elements, tensor);
}

OffloadedActivations::OffloadedActivations(mesh::HostLink& link) : state_(std::make_shared<State>(link)) {}
OffloadedActivations::~OffloadedActivations() = default;
OffloadedActivations::OffloadedActivations(OffloadedActivations&&) noexcept = default;

void OffloadedActivations::leave_alone(const at::Tensor& tensor) {
  auto& stay = state_->stay;
  std::erase_if(stay, [](const at::Storage& storage) { return storage.use_count() == 1; });  // nobody else has it any more
  stay.push_back(tensor.storage());
}

at::Tensor OffloadedActivations::run(bool is_first, const std::function<at::Tensor()>& layer) {
  if (!at::GradMode::is_enabled()) return layer();
  allow_keepers();
  // The host may be far ahead of the device: without this it would take new memory while what was used last is not free yet.
  if (is_first) {
    if (const auto up = std::exchange(state_->last_up, nullptr)) up->crossing->wait_on_host();
  }
  auto& on_device = state_->on_device;
  while (static_cast<std::int64_t>(on_device.size()) >= plan::kOffloadLayers) {
    if (const auto oldest = on_device.front().lock()) oldest->let_go();
    on_device.pop_front();
  }
  last_ = std::make_shared<Layer>(state_, is_first ? nullptr : last_);
  on_device.push_back(last_);
  const WithKeeper scope(last_.get());
  return layer();
}

}  // namespace trainyard::model
