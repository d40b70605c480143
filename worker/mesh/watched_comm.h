#pragma once
// A Comm whose calls are told to a Timeline: their numbers, and how long the rank waits in each.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/mesh/comm.h"
#include "worker/mesh/timeline.h"

namespace trainyard::mesh {

class WatchedComm final : public Comm {
 public:
  /// `group`: the name that all its ranks give it; `ranks`: the world's numbers of them, in the order of the group's. `timeline` must
  /// outlive this object.
  WatchedComm(std::unique_ptr<Comm> inner, Timeline& timeline, std::string group, std::vector<std::int32_t> ranks);

  std::int32_t rank() const override { return inner_->rank(); }
  std::int32_t size() const override { return inner_->size(); }
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
  class Watched;
  std::int32_t world_rank(std::int32_t rank) const { return ranks_.at(static_cast<std::size_t>(rank)); }
  /// `step` makes the call, and waits for it.
  template <class Step>
  void watch(const char* operation, const at::Tensor& tensor, std::int32_t peer, Step&& step);

  std::unique_ptr<Comm> inner_;
  Timeline& timeline_;
  std::string group_;
  std::vector<std::int32_t> ranks_;
};

}  // namespace trainyard::mesh
