#include "worker/mesh/watched_comm.h"

#include <atomic>
#include <utility>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace trainyard::mesh {
namespace {

/// Between two events of the device's current stream: what it waits for in between is the call.
class StreamWait final : public OnDevice {
 public:
  explicit StreamWait(at::Device device) : device_(device) { begin_.record(stream()); }
  void end() {
    end_.record(stream());
    is_whole_ = true;
  }
  bool has_begun() override { return begin_.query(); }
  bool is_done() override { return is_whole_ && end_.query(); }
  double seconds() override { return begin_.elapsedTime(end_) / 1000; }

 private:
  c10::Stream stream() const { return c10::impl::VirtualGuardImpl(device_.type()).getStream(device_); }

  at::Device device_;
  c10::Event begin_{device_.type(), c10::EventFlag::BACKEND_DEFAULT}, end_{device_.type(), c10::EventFlag::BACKEND_DEFAULT};
  std::atomic<bool> is_whole_ = false;
};

/// Null on a CPU, where whoever waits is the host.
std::shared_ptr<StreamWait> wait_of(const at::Tensor& tensor) {
  return tensor.is_cuda() ? std::make_shared<StreamWait>(tensor.device()) : nullptr;
}

}  // namespace

WatchedComm::WatchedComm(std::unique_ptr<Comm> inner, Timeline& timeline, std::string group, std::vector<std::int32_t> ranks)
    : inner_(std::move(inner)), timeline_(timeline), group_(std::move(group)), ranks_(std::move(ranks)) {}

template <class Step>
void WatchedComm::watch(const char* operation, const at::Tensor& tensor, std::int32_t peer, Step&& step) {
  const Call call = timeline_.started(group_, operation, tensor.defined() ? tensor.numel() : 0, peer);
  const auto device = tensor.defined() ? wait_of(tensor) : nullptr;
  const Timeline::Span span(timeline_, call, device);
  step();
  if (device != nullptr) device->end();
}

class WatchedComm::Watched final : public Pending {
 public:
  Watched(Timeline& timeline, Call call, at::Tensor tensor, std::unique_ptr<Pending> inner)
      : timeline_(timeline), call_(std::move(call)), tensor_(std::move(tensor)), inner_(std::move(inner)) {}
  void wait() override {
    const auto device = wait_of(tensor_);
    const Timeline::Span span(timeline_, call_, device);
    inner_->wait();
    if (device != nullptr) device->end();
  }

 private:
  Timeline& timeline_;
  Call call_;
  at::Tensor tensor_;
  std::unique_ptr<Pending> inner_;
};

void WatchedComm::all_reduce(at::Tensor& tensor, ReduceOp op) {
  watch("all_reduce", tensor, -1, [&] { inner_->all_reduce(tensor, op); });
}

void WatchedComm::all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) {
  watch("all_gather", in, -1, [&] { inner_->all_gather(out, in); });
}

void WatchedComm::broadcast(at::Tensor& tensor, std::int32_t root) {
  watch("broadcast", tensor, -1, [&] { inner_->broadcast(tensor, root); });
}

void WatchedComm::send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) {
  watch("send", tensor, world_rank(to), [&] { inner_->send(tensor, to, tag); });
}

void WatchedComm::receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) {
  watch("receive", tensor, world_rank(from), [&] { inner_->receive(tensor, from, tag); });
}

void WatchedComm::barrier() {
  watch("barrier", {}, -1, [&] { inner_->barrier(); });
}

std::unique_ptr<Pending> WatchedComm::start_all_reduce(at::Tensor& tensor, ReduceOp op) {
  Call call = timeline_.started(group_, "all_reduce", tensor.numel());
  return std::make_unique<Watched>(timeline_, std::move(call), tensor, inner_->start_all_reduce(tensor, op));
}

std::unique_ptr<Pending> WatchedComm::start_all_gather(at::Tensor& whole, const at::Tensor& part) {
  Call call = timeline_.started(group_, "all_gather", whole.numel());
  return std::make_unique<Watched>(timeline_, std::move(call), part, inner_->start_all_gather(whole, part));
}

std::unique_ptr<Pending> WatchedComm::start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) {
  Call call = timeline_.started(group_, "reduce_scatter", whole.numel());
  return std::make_unique<Watched>(timeline_, std::move(call), part, inner_->start_reduce_scatter(part, whole));
}

std::unique_ptr<Pending> WatchedComm::start_all_to_all(at::Tensor& out, const at::Tensor& whole) {
  Call call = timeline_.started(group_, "all_to_all", whole.numel());
  return std::make_unique<Watched>(timeline_, std::move(call), out, inner_->start_all_to_all(out, whole));
}

}  // namespace trainyard::mesh
