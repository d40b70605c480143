#ifdef TRAINYARD_CUDA

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "worker/mesh/backend_comm.h"

namespace trainyard::mesh {

std::unique_ptr<Comm> nccl_comm(const BackendOptions& options) {
  auto nccl = c10d::ProcessGroupNCCL::Options::create();
  nccl->timeout = options.connect_timeout;
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(options.device_index));
  try {
    auto process_group = c10::make_intrusive<c10d::ProcessGroupNCCL>(options.store, options.rank, options.size, nccl);
    auto comm = std::make_unique<BackendComm>(process_group, "NCCL", device);
    // NCCL connects at its first call: here, so that a failure to connect shows at the start. Pairs: see meet_in_pairs().
    if (!options.point_to_point) comm->barrier();
    process_group->setTimeout(options.timeout);
    return comm;
  } catch (const PeerLost&) {
    throw;
  } catch (const std::exception& error) {
    throw PeerLost("connect " + std::to_string(options.size) + " ranks by NCCL, as rank " + std::to_string(options.rank) + ": " +
                   error.what());
  }
}

}  // namespace trainyard::mesh

#endif  // TRAINYARD_CUDA
