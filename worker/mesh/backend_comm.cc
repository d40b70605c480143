#include "worker/mesh/backend_comm.h"

#include <torch/csrc/distributed/c10d/Types.hpp>

namespace trainyard::mesh {
namespace {

/// A neighbour of a 1F1B pipeline is never this far behind, so that waiting for the oldest send cannot close a circle.
constexpr std::size_t kMostSends = 16;

}  // namespace

BackendComm::BackendComm(c10::intrusive_ptr<c10d::Backend> backend, std::string name, at::Device device)
    : backend_(std::move(backend)), name_(std::move(name)), device_(device) {}

BackendComm::~BackendComm() = default;

void BackendComm::lost(const char* call, const std::exception& error) const {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  throw PeerLost(name_ + " " + call + " among " + std::to_string(size()) + " ranks, as rank " + std::to_string(rank()) + ": " +
                 (torch_error != nullptr ? torch_error->what_without_backtrace() : error.what()));
}

void BackendComm::wait(const Work& work, const char* call) const {
  try {
    work->wait();
  } catch (const std::exception& error) {
    lost(call, error);
  }
}

void BackendComm::all_reduce(at::Tensor& tensor, ReduceOp op) {
  c10d::AllreduceOptions options;
  options.reduceOp = op == ReduceOp::kSum ? c10d::ReduceOp::SUM : c10d::ReduceOp::MAX;
  std::vector<at::Tensor> tensors{tensor};
  wait(backend_->allreduce(tensors, options), "all_reduce");
}

void BackendComm::all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) {
  std::vector<std::vector<at::Tensor>> outputs{out};
  std::vector<at::Tensor> inputs{in};
  wait(backend_->allgather(outputs, inputs), "all_gather");
}

void BackendComm::broadcast(at::Tensor& tensor, std::int32_t root) {
  c10d::BroadcastOptions options;
  options.rootRank = root;
  std::vector<at::Tensor> tensors{tensor};
  wait(backend_->broadcast(tensors, options), "broadcast");
}

void BackendComm::send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) {
  // Not waited for: the receiver may be sending to us. With NCCL a finished send is seen by its event, with Gloo only by waiting.
  while (!sends_.empty() && (sends_.size() >= kMostSends || sends_.front().first->isCompleted())) {
    wait(sends_.front().first, "send");
    sends_.pop_front();
  }
  std::vector<at::Tensor> tensors{tensor.detach().contiguous()};
  auto work = backend_->send(tensors, to, tag);
  sends_.emplace_back(std::move(work), tensors.front());
}

void BackendComm::receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) {
  std::vector<at::Tensor> tensors{tensor};
  wait(backend_->recv(tensors, from, tag), "receive");
}

void BackendComm::barrier() {
  // A reduction of one number: it is the same on every backend and leaves stream order to the backend.
  at::Tensor one = at::ones({1}, at::TensorOptions().device(device_));
  all_reduce(one, ReduceOp::kSum);
  one.item<float>();
}

}  // namespace trainyard::mesh
