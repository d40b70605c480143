#pragma once
// Communication between the ranks of one group, as the engine sees it. Gloo on CPU, NCCL on GPUs, and LocalComm, in which N ranks
// are N threads of one process. All calls are collective: every rank of the group makes the same calls in the same order, with
// tensors of equal shape and type. All calls but start_…() return when the result is in place (on a GPU: in the order of the current
// stream).

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ATen.h>

namespace trainyard::mesh {

/// Another rank of the group is gone or does not answer: not this rank's fault. The rank ends with kPeerLostExitCode.
class PeerLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Whether the error is of this rank's own GPU, and no other rank's doing.
bool tells_of_this_device(const std::exception& error);

enum class ReduceOp { kSum, kMax };

/// A call that goes on beside its caller.
class Pending {
 public:
  virtual ~Pending() = default;
  /// Once: returns when the result is in place, as the other calls do. Throws PeerLost.
  virtual void wait() = 0;
};

class Comm {
 public:
  virtual ~Comm() = default;
  virtual std::int32_t rank() const = 0;  // within the group
  virtual std::int32_t size() const = 0;
  /// In place, over all ranks of the group.
  virtual void all_reduce(at::Tensor& tensor, ReduceOp op) = 0;
  /// `out` has one tensor a rank, in rank order.
  virtual void all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) = 0;
  virtual void broadcast(at::Tensor& tensor, std::int32_t root) = 0;
  /// Point to point; the other end calls the opposite with the same tag.
  virtual void send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) = 0;
  virtual void receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) = 0;
  virtual void barrier() = 0;

  // These return at once, and go on beside the caller; several of a group are done in the order of their starts. `whole` is flat and has
  // a part of equal size for each rank, in rank order. The tensors must be neither changed nor read until wait().

  /// As all_reduce(). Ends with the same bits as that.
  virtual std::unique_ptr<Pending> start_all_reduce(at::Tensor& tensor, ReduceOp op) = 0;
  /// `part` of every rank, put together on every rank.
  virtual std::unique_ptr<Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) = 0;
  /// Sums `whole` over the ranks; each gets its own part of it.
  virtual std::unique_ptr<Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) = 0;
  /// Part r of `whole` goes to rank r; part s of `out` comes from rank s.
  virtual std::unique_ptr<Pending> start_all_to_all(at::Tensor& out, const at::Tensor& whole) = 0;
};

}  // namespace trainyard::mesh
