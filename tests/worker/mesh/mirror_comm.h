#pragma once
// One rank of a group whose others give what it gives: what a rank computes and keeps can be seen without them. It takes as many buffers as
// BackendComm does over Gloo, but not what Gloo has for itself within a call: of a gathering all that is gathered, a second time.

#include <memory>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "worker/mesh/local_comm.h"
#include "worker/mesh/mesh.h"

namespace trainyard::mesh {

class MirrorComm final : public Comm {
 public:
  explicit MirrorComm(std::int32_t size) : size_(size) {}
  std::int32_t rank() const override { return 0; }
  std::int32_t size() const override { return size_; }
  void all_reduce(at::Tensor& tensor, ReduceOp op) override {
    if (op == ReduceOp::kSum) tensor.mul_(size_);
  }
  void all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) override {
    for (auto& tensor : out) tensor.copy_(in);
  }
  void broadcast(at::Tensor&, std::int32_t) override {}
  void send(const at::Tensor&, std::int32_t, std::int32_t) override {}
  /// What a stage before or after would give is not known here.
  void receive(at::Tensor& tensor, std::int32_t, std::int32_t) override {
    const at::NoGradGuard no_grad;
    at::sin_out(tensor, at::arange(tensor.numel(), tensor.options()).view(tensor.sizes()));
  }
  void barrier() override {}
  std::unique_ptr<Pending> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    all_reduce(tensor, op);
    return std::make_unique<Mirrored>(tensor);
  }
  std::unique_ptr<Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override {
    whole.view({size_, -1}).copy_(part);
    return std::make_unique<Mirrored>();
  }
  std::unique_ptr<Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) override {
    part.copy_(whole.view({size_, -1})[0]).mul_(size_);
    return std::make_unique<Mirrored>(whole, at::empty_like(whole));
  }
  std::unique_ptr<Pending> start_all_to_all(at::Tensor& out, const at::Tensor& whole) override {
    out.view({size_, -1}).copy_(whole.view({size_, -1})[0]);
    return std::make_unique<Mirrored>(whole);
  }

 private:
  struct Mirrored final : Pending {
    explicit Mirrored(at::Tensor whole = {}, at::Tensor parts = {}) : whole_(std::move(whole)), parts_(std::move(parts)) {}
    void wait() override {}
    at::Tensor whole_, parts_;  // live as long as the call
  };
  std::int32_t size_;
};

/// Data rank 0 of stage `stage`; to the host by `link`, else by that of a CPU.
inline Mesh mirrored(const contract::Layout& layout, std::int32_t stage = 0, std::unique_ptr<HostLink> link = nullptr) {
  const auto& degrees = layout.degrees();
  const std::int32_t rank = layout.rank_of({.pp = stage});
  const auto group = [](std::int32_t size) -> std::unique_ptr<Comm> {
    return size == 1 ? solo_comm() : std::make_unique<MirrorComm>(size);
  };
  Mesh::Comms comms;
  comms.world = group(layout.world_size());
  comms.data = group(degrees.dp);
  comms.tensor = group(degrees.tp);
  for (auto* along :
       {&comms.pipeline, &comms.activations, &comms.gradients, &comms.activations_around, &comms.gradients_around}) {
    *along = group(degrees.pp);
  }
  return Mesh(layout, rank, at::kCPU, std::move(comms), {}, std::make_shared<Timeline>(), std::move(link));
}

}  // namespace trainyard::mesh
