#pragma once
// A Comm whose started calls are done no sooner than they are waited for, and whose results are not to be read before: the other end of
// what a backend may do than LocalComm, which does all at once.

#include <functional>
#include <limits>
#include <memory>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "tests/worker/mesh/late_link.h"
#include "worker/mesh/mesh.h"

namespace trainyard::mesh {

class LateComm : public Comm {
 public:
  /// `inner` must outlive this object.
  explicit LateComm(Comm& inner) : inner_(inner) {}
  std::int32_t rank() const override { return inner_.rank(); }
  std::int32_t size() const override { return inner_.size(); }
  void all_reduce(at::Tensor& tensor, ReduceOp op) override { inner_.all_reduce(tensor, op); }
  void all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) override { inner_.all_gather(out, in); }
  void broadcast(at::Tensor& tensor, std::int32_t root) override { inner_.broadcast(tensor, root); }
  void send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) override { inner_.send(tensor, to, tag); }
  void receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) override { inner_.receive(tensor, from, tag); }
  void barrier() override { inner_.barrier(); }
  /// What is reduced in place is another number until then, and comes back for the call.
  std::unique_ptr<Pending> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    const at::NoGradGuard no_grad;
    const at::Tensor given = tensor.clone();
    return later(tensor, [this, tensor, given, op]() mutable {
      const at::NoGradGuard in_call;
      tensor.copy_(given);
      inner_.start_all_reduce(tensor, op)->wait();
    });
  }
  std::unique_ptr<Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override {
    return later(whole, [this, whole, part]() mutable { inner_.start_all_gather(whole, part)->wait(); });
  }
  std::unique_ptr<Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) override {
    return later(part, [this, part, whole]() mutable { inner_.start_reduce_scatter(part, whole)->wait(); });
  }
  std::unique_ptr<Pending> start_all_to_all(at::Tensor& out, const at::Tensor& whole) override {
    return later(out, [this, out, whole]() mutable { inner_.start_all_to_all(out, whole)->wait(); });
  }

 private:
  struct Late final : Pending {
    explicit Late(std::function<void()> call) : call_(std::move(call)) {}
    void wait() override { call_(); }
    std::function<void()> call_;
  };
  static std::unique_ptr<Pending> later(const at::Tensor& result, std::function<void()> call) {
    result.fill_(std::numeric_limits<double>::quiet_NaN());
    return std::make_unique<Late>(std::move(call));
  }
  Comm& inner_;
};

/// The same mesh, late along the data axis, with its rank on `device`; to the host by `link`, else late on a CPU and as it is on a GPU. The
/// mesh must outlive the result.
inline Mesh late_on(Mesh& mesh, at::Device device, std::unique_ptr<HostLink> link = nullptr) {
  if (!link && device.is_cpu()) link = std::make_unique<LateLink>();
  return Mesh(mesh.layout(), mesh.rank(), device,
              {.world = std::make_unique<LateComm>(mesh.world()),
               .data = std::make_unique<LateComm>(mesh.data()),
               .tensor = std::make_unique<LateComm>(mesh.tensor()),
               .pipeline = std::make_unique<LateComm>(mesh.pipeline()),
               .activations = std::make_unique<LateComm>(mesh.activations()),
               .gradients = std::make_unique<LateComm>(mesh.gradients()),
               .activations_around = std::make_unique<LateComm>(mesh.activations(true)),
               .gradients_around = std::make_unique<LateComm>(mesh.gradients(true)),
               .shards = std::make_unique<LateComm>(mesh.shards()),
               .replicas = mesh.replicas() != nullptr ? std::make_unique<LateComm>(*mesh.replicas()) : nullptr},
              {}, std::make_shared<Timeline>(), std::move(link));
}
inline Mesh late(Mesh& mesh) { return late_on(mesh, at::kCPU); }

}  // namespace trainyard::mesh
