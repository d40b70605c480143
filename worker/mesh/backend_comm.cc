#include "worker/mesh/backend_comm.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <new>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include "worker/plan/pipeline.h"

namespace trainyard::mesh {
namespace {

/// In no schedule can waiting for the oldest of so many sends close a circle.
constexpr std::size_t kMostSends = plan::kSendsOnTheirWay;

}  // namespace

std::string place_of(const BackendOptions& options) {
  constexpr std::size_t kMost = 8;
  const auto& ranks = options.ranks;
  const bool whole = ranks.size() <= kMost;
  std::string text = "of " + options.group + ", ranks ";
  for (std::size_t i = 0; i < std::min(ranks.size(), kMost); ++i) {
    if (i > 0) text += whole && i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  if (!whole) text += " and " + std::to_string(ranks.size() - kMost) + " others";
  return text + ", as rank " + std::to_string(ranks.at(static_cast<std::size_t>(options.rank)));
}

BackendComm::BackendComm(c10::intrusive_ptr<c10d::Backend> backend, std::string name, at::Device device,
                         const BackendOptions& options)
    : backend_(std::move(backend)), name_(std::move(name)), device_(device), place_(place_of(options)), ranks_(options.ranks) {}

BackendComm::~BackendComm() = default;

/// No other rank's doing: of this rank's GPU or memory, or a bug, which the backends tell in other types than lost connections.
bool tells_of_this_rank(const std::exception& error) {
  if (tells_of_this_device(error) || dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  return dynamic_cast<const c10::Error*>(&error) != nullptr && dynamic_cast<const c10::DistError*>(&error) == nullptr;
}

bool tells_of_this_device(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text.find("cuda error") != std::string::npos;  // "unhandled cuda error" of NCCL, too
}

std::string BackendComm::with_peer(const char* words, std::int32_t peer) const {
  return std::string(words) + " rank " + std::to_string(ranks_.at(static_cast<std::size_t>(peer)));
}

void BackendComm::lost(const std::string& words, const std::exception& error) const {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  throw PeerLost(name_ + " " + words + " " + place_ + ": " +
                 (torch_error != nullptr ? torch_error->what_without_backtrace() : error.what()));
}

template <class Step>
void BackendComm::guard(const std::string& words, Step&& step) const {
  try {
    step();
  } catch (const std::exception& error) {
    if (tells_of_this_rank(error)) throw;
    lost(words, error);
  }
}

class BackendComm::Started final : public Pending {
 public:
  /// `tensors` live as long as the call; `finish` is done once it has ended well.
  Started(const BackendComm& comm, const char* call, std::vector<at::Tensor> tensors, std::function<Work()> start,
          std::function<void()> finish = {})
      : comm_(comm), call_(call), tensors_(std::move(tensors)), finish_(std::move(finish)) {
    comm_.guard(call_, [&] { work_ = start(); });
  }
  void wait() override {
    comm_.guard(call_, [&] { work_->wait(); });
    if (finish_) finish_();
  }

 private:
  const BackendComm& comm_;
  const char* call_;
  std::vector<at::Tensor> tensors_;
  std::function<void()> finish_;
  Work work_;
};

std::unique_ptr<Pending> BackendComm::start_all_reduce(at::Tensor& tensor, ReduceOp op) {
  return std::make_unique<Started>(*this, "all_reduce", std::vector{tensor}, [&] { return reduce(tensor, op); });
}

std::unique_ptr<Pending> BackendComm::start_all_gather(at::Tensor& whole, const at::Tensor& part) {
  return std::make_unique<Started>(*this, "all_gather", std::vector{whole, part},
                                   [&, in = part]() mutable { return backend_->_allgather_base(whole, in); });
}

std::unique_ptr<Pending> BackendComm::start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) {
  if (device_.is_cuda()) {
    return std::make_unique<Started>(*this, "reduce_scatter", std::vector{part, whole},
                                     [&, in = whole]() mutable { return backend_->_reduce_scatter_base(part, in); });
  }
  // Gloo's own would reduce all of it on every rank, which sends twice the bytes. The sum is taken in rank order.
  at::Tensor parts = at::empty_like(whole);
  return std::make_unique<Started>(
      *this, "reduce_scatter", std::vector{part, whole, parts}, [&, in = whole]() mutable { return exchange(parts, in); },
      [part, parts, ranks = size()]() mutable {
        const at::NoGradGuard no_grad;
        const auto of_rank = parts.view({ranks, -1}).unbind();
        part.copy_(of_rank.front());
        for (std::size_t rank = 1; rank < of_rank.size(); ++rank) part.add_(of_rank[rank]);
      });
}

std::unique_ptr<Pending> BackendComm::start_all_to_all(at::Tensor& out, const at::Tensor& whole) {
  return std::make_unique<Started>(*this, "all_to_all", std::vector{out, whole},
                                   [&, in = whole]() mutable { return exchange(out, in); });
}

BackendComm::Work BackendComm::exchange(at::Tensor& out, at::Tensor& in) {
  std::vector<std::int64_t> equal_out, equal_in;
  return backend_->alltoall_base(out, in, equal_out, equal_in);
}

BackendComm::Work BackendComm::reduce(at::Tensor& tensor, ReduceOp op) {
  c10d::AllreduceOptions options;
  options.reduceOp = op == ReduceOp::kSum ? c10d::ReduceOp::SUM : c10d::ReduceOp::MAX;
  std::vector<at::Tensor> tensors{tensor};
  return backend_->allreduce(tensors, options);
}

void BackendComm::all_reduce(at::Tensor& tensor, ReduceOp op) {
  guard("all_reduce", [&] { reduce(tensor, op)->wait(); });
}

void BackendComm::all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) {
  std::vector<std::vector<at::Tensor>> outputs{out};
  std::vector<at::Tensor> inputs{in};
  guard("all_gather", [&] { backend_->allgather(outputs, inputs)->wait(); });
}

void BackendComm::broadcast(at::Tensor& tensor, std::int32_t root) {
  c10d::BroadcastOptions options;
  options.rootRank = root;
  std::vector<at::Tensor> tensors{tensor};
  guard("broadcast", [&] { backend_->broadcast(tensors, options)->wait(); });
}

void BackendComm::send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) {
  // Not waited for: the receiver may be sending to us. With NCCL a finished send is seen by its event, with Gloo only by waiting.
  std::vector<at::Tensor> tensors{tensor.detach().contiguous()};
  while (!sends_.empty()) {
    Send& oldest = sends_.front();
    bool is_done = false;
    guard(with_peer("send to", oldest.to), [&] {
      is_done = sends_.size() >= kMostSends || oldest.work->isCompleted();
      if (is_done) oldest.work->wait();
    });
    if (!is_done) break;
    sends_.pop_front();
  }
  guard(with_peer("send to", to), [&] { sends_.push_back({backend_->send(tensors, to, tag), tensors.front(), to}); });
}

void BackendComm::receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) {
  std::vector<at::Tensor> tensors{tensor};
  guard(with_peer("receive from", from), [&] { backend_->recv(tensors, from, tag)->wait(); });
}

void BackendComm::barrier() {
  // A reduction of one number: it is the same on every backend and leaves stream order to the backend.
  at::Tensor one = at::ones({1}, at::TensorOptions().device(device_));
  all_reduce(one, ReduceOp::kSum);
  one.item<float>();
}

}  // namespace trainyard::mesh
