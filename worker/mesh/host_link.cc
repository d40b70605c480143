#include "worker/mesh/host_link.h"

#include <optional>

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "worker/plan/offload_cost.h"

#ifdef TRAINYARD_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#endif

namespace trainyard::mesh {
namespace {

class OneMemory final : public HostLink {
 public:
  at::Tensor memory(at::IntArrayRef sizes, at::ScalarType type) override { return at::empty(sizes, type); }
  at::Tensor passing_memory(at::IntArrayRef sizes, at::ScalarType type) override { return at::empty(sizes, type); }
  std::unique_ptr<Crossing> start(Way /*way*/, std::function<void()> work) override {
    work();
    return std::make_unique<Done>();
  }
  std::int64_t block_elements() const override { return plan::kOffloadBlock; }

 private:
  struct Done final : Crossing {
    void wait_on_device() override {}
    void wait_on_host() override {}
  };
};

/// LibTorch's own pinned memory comes in powers of two, which nearly doubles what a large tensor takes.
at::Tensor pinned(at::IntArrayRef sizes, at::ScalarType type, [[maybe_unused]] at::Device device) {
#ifdef TRAINYARD_CUDA
  const auto bytes = static_cast<std::size_t>(c10::multiply_integers(sizes)) * c10::elementSize(type);
  if (bytes > 0) {
    const c10::cuda::CUDAGuard guard(device);
    void* address = nullptr;
    C10_CUDA_CHECK(cudaHostAlloc(&address, bytes, cudaHostAllocDefault));
    return at::from_blob(
        address, sizes, [](void* memory) { C10_CUDA_CHECK_WARN(cudaFreeHost(memory)); }, at::TensorOptions(type));
  }
#endif
  return at::empty(sizes, type);
}

class StreamLink final : public HostLink {
 public:
  explicit StreamLink(at::Device device) : device_(device), streams_(device.type()) {}

  at::Tensor memory(at::IntArrayRef sizes, at::ScalarType type) override { return pinned(sizes, type, device_); }
  at::Tensor passing_memory(at::IntArrayRef sizes, at::ScalarType type) override {
    return at::empty(sizes, at::TensorOptions(type).pinned_memory(true));
  }
  std::unique_ptr<Crossing> start(Way way, std::function<void()> work) override {
    auto& stream = way == Way::kUp ? up_ : down_;
    if (!stream) stream = streams_.getStreamFromGlobalPool(device_);
    c10::Event before(device_.type());
    before.record(streams_.getStream(device_));
    before.block(*stream);
    const c10::StreamGuard guard(*stream);
    work();
    return std::make_unique<Recorded>(*stream, *this);
  }
  std::int64_t block_elements() const override { return plan::kOffloadBlock; }

 private:
  class Recorded final : public Crossing {
   public:
    Recorded(const c10::Stream& stream, const StreamLink& link) : link_(link), done_(stream.device_type()) {
      done_.record(stream);
    }
    void wait_on_device() override { done_.block(link_.streams_.getStream(link_.device_)); }
    void wait_on_host() override { done_.synchronize(); }

   private:
    const StreamLink& link_;
    c10::Event done_;
  };

  at::Device device_;
  c10::impl::VirtualGuardImpl streams_;
  std::optional<c10::Stream> up_, down_;
};

}  // namespace

std::unique_ptr<HostLink> host_link(at::Device device) {
  if (device.is_cpu()) return std::make_unique<OneMemory>();
  return std::make_unique<StreamLink>(device);
}

}  // namespace trainyard::mesh
