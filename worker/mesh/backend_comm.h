#pragma once
// A Comm over one of PyTorch's process groups: Gloo on CPU, NCCL on GPUs.

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "worker/mesh/comm.h"

namespace trainyard::mesh {

struct BackendOptions {
  c10::intrusive_ptr<c10d::Store> store;  // with this group's prefix
  std::int32_t rank = 0;                  // within the group
  std::int32_t size = 1;
  std::string group;  // its name, and the world's numbers of its ranks in the order of the group's: for messages
  std::vector<std::int32_t> ranks;
  std::string bind_address;                      // Gloo's: the address of this rank that the others connect to
  std::int32_t device_index = 0;                 // NCCL's
  std::chrono::milliseconds connect_timeout{0};  // until all ranks of the group are there
  std::chrono::milliseconds timeout{0};          // of every later call; after it the peers count as lost
  bool point_to_point = false;  // the group only sends and receives: NCCL then makes no communicator of all its ranks
};

/// Throw PeerLost when not all ranks of the group connect within the timeout.
std::unique_ptr<Comm> gloo_comm(const BackendOptions& options);
/// Only in builds with TRAINYARD_CUDA.
std::unique_ptr<Comm> nccl_comm(const BackendOptions& options);

/// "of tensor, ranks 2 and 3, as rank 2": the group and this rank, in the world's numbers; of many ranks the first ones.
std::string place_of(const BackendOptions& options);

/// Every failure of a call that was started is a PeerLost that says which call of which group, this rank and the group's in the world's numbers,
/// the other end of a send or receive, and the backend's own words; but those of this rank's own GPU or memory, and what the backend refuses to
/// do, come as they are. Who is lost in a collective no backend says: Gloo tells an address, which all ranks of a worker have.
class BackendComm final : public Comm {
 public:
  /// `name` as in "Gloo", for messages, as group and ranks of `options` are; `device` is where the backend needs its tensors.
  BackendComm(c10::intrusive_ptr<c10d::Backend> backend, std::string name, at::Device device, const BackendOptions& options);
  ~BackendComm() override;

  std::int32_t rank() const override { return backend_->getRank(); }
  std::int32_t size() const override { return backend_->getSize(); }
  void all_reduce(at::Tensor& tensor, ReduceOp op) override;
  void all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) override;
  void broadcast(at::Tensor& tensor, std::int32_t root) override;
  void send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) override;
  void receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) override;
  void barrier() override;
  std::unique_ptr<Pending> start_all_reduce(at::Tensor& tensor, ReduceOp op) override;
  std::unique_ptr<Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override;
  std::unique_ptr<Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) override;
  std::unique_ptr<Pending> start_all_to_all(at::Tensor& out, const at::Tensor& whole) override;

 private:
  using Work = c10::intrusive_ptr<c10d::Work>;
  class Started;
  struct Send {
    Work work;
    at::Tensor tensor;  // must live as long
    std::int32_t to = 0;
  };
  /// Starts a call and waits for it: Gloo finds a closed connection at either. `words`: for messages.
  template <class Step>
  void guard(const std::string& words, Step&& step) const;
  /// "send to rank 3".
  std::string with_peer(const char* words, std::int32_t peer) const;
  Work reduce(at::Tensor& tensor, ReduceOp op);
  /// All parts are of one size.
  Work exchange(at::Tensor& out, at::Tensor& in);
  [[noreturn]] void lost(const std::string& words, const std::exception& error) const;

  c10::intrusive_ptr<c10d::Backend> backend_;
  std::string name_;
  at::Device device_;
  std::string place_;                // as place_of() has it
  std::vector<std::int32_t> ranks_;  // the world's numbers
  std::deque<Send> sends_;           // on their way
};

}  // namespace trainyard::mesh
