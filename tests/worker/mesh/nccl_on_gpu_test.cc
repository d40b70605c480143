// The NCCL backend on a GPU. NCCL refuses two ranks on one GPU, so this is a group of one: it connects, and every collective runs.
#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <gtest/gtest.h>

#include "worker/mesh/backend_comm.h"

namespace trainyard::mesh {
namespace {

TEST(NcclOnGpu, ConnectsAGroupOfOneAndRunsItsCollectives) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  BackendOptions options;
  options.store = c10::make_intrusive<c10d::HashStore>();
  options.group = "world";
  options.ranks = {0};
  options.bind_address = "127.0.0.1";
  options.connect_timeout = options.timeout = std::chrono::seconds(60);
  const auto comm = nccl_comm(options);
  EXPECT_EQ(comm->size(), 1);
  const at::Tensor values = at::arange(1000, at::TensorOptions().dtype(at::kFloat).device(at::kCUDA));
  at::Tensor tensor = values.clone();
  comm->all_reduce(tensor, ReduceOp::kSum);
  EXPECT_TRUE(at::equal(tensor, values));
  comm->all_reduce(tensor, ReduceOp::kMax);
  comm->start_all_reduce(tensor, ReduceOp::kSum)->wait();  // in place, of one: that it runs
  comm->broadcast(tensor, 0);
  EXPECT_TRUE(at::equal(tensor, values));
  std::vector<at::Tensor> parts{at::zeros_like(values)};
  comm->all_gather(parts, values);
  EXPECT_TRUE(at::equal(parts[0], values));
  const auto started = [&](auto call) {
    at::Tensor result = at::zeros_like(values);
    call(result)->wait();
    EXPECT_TRUE(at::equal(result, values));
  };
  started([&](at::Tensor& whole) { return comm->start_all_gather(whole, values); });
  started([&](at::Tensor& part) { return comm->start_reduce_scatter(part, values); });
  started([&](at::Tensor& out) { return comm->start_all_to_all(out, values); });
  comm->barrier();
}

}  // namespace
}  // namespace trainyard::mesh

#endif  // TRAINYARD_CUDA
