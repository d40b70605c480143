#include "worker/model/offloaded_activations.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include "worker/model/saved_tensors.h"
#include "worker/plan/offload_cost.h"

namespace trainyard::model {

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
      let_go();  // the graph was gone before the copy was down
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
    device_.reset();
  }
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
};

/// What is kept of one layer's forward. Its tensors live as long as the graph needs each.
class OffloadedActivations::Layer final : public Keeper, public std::enable_shared_from_this<Layer> {
 public:
  Layer(mesh::HostLink& link, std::shared_ptr<const std::vector<at::Storage>> stay, std::shared_ptr<Layer> before)
      : link_(link), stay_(std::move(stay)), before_(std::move(before)) {}

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
    if (before_) {
      before_->bring_up();
      before_.reset();
    }
    if (const auto up = std::exchange(up_, nullptr)) up->wait_on_device();
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
           std::any_of(stay_->begin(), stay_->end(), [&](const at::Storage& storage) {
             return storage.unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl();
           });
  }
  void bring_up() {
    if (std::exchange(is_wanted_, true)) return;
    std::vector<std::pair<at::Tensor, at::Tensor>> copies;
    for (const auto& elements : living()) {
      if (elements->make_room(device_)) copies.emplace_back(elements->device(), elements->host());
    }
    if (copies.empty()) return;
    up_ = link_.start(mesh::Way::kUp, [copies] {
      for (const auto& [to, from] : copies) to.copy_(from, /*non_blocking=*/true);
    });
  }

  mesh::HostLink& link_;
  std::shared_ptr<const std::vector<at::Storage>> stay_;
  std::shared_ptr<Layer> before_;  // in forward; until its tensors are on their way up
  std::vector<std::weak_ptr<Elements>> kept_;
  at::Device device_ = at::kCPU;  // of what was kept
  bool is_wanted_ = false;
  std::unique_ptr<mesh::Crossing> up_;
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
  const auto elements = std::make_shared<Elements>(flat, link_);
  kept_.push_back(elements);
  return std::make_unique<KeptThere>(shared_from_this(), elements, tensor);
}

OffloadedActivations::OffloadedActivations(mesh::HostLink& link)
    : link_(&link), stay_(std::make_shared<std::vector<at::Storage>>()) {}
OffloadedActivations::~OffloadedActivations() = default;
OffloadedActivations::OffloadedActivations(OffloadedActivations&&) noexcept = default;

void OffloadedActivations::leave_alone(const at::Tensor& tensor) {
  std::erase_if(*stay_, [](const at::Storage& storage) { return storage.use_count() == 1; });  // nobody else has it any more
  stay_->push_back(tensor.storage());
}

at::Tensor OffloadedActivations::run(bool is_first, const std::function<at::Tensor()>& layer) {
  if (!at::GradMode::is_enabled()) return layer();
  allow_keepers();
  while (static_cast<std::int64_t>(on_device_.size()) >= plan::kOffloadLayers) {
    on_device_.front()->let_go();
    on_device_.pop_front();
  }
  last_ = std::make_shared<Layer>(*link_, stay_, is_first ? nullptr : last_);
  on_device_.push_back(last_);
  const WithKeeper scope(last_.get());
  return layer();
}

}  // namespace trainyard::model
