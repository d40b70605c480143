#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "worker/mesh/backend_comm.h"

namespace trainyard::mesh {

std::unique_ptr<Comm> gloo_comm(const BackendOptions& options) {
  auto gloo = c10d::ProcessGroupGloo::Options::create(options.connect_timeout);
  gloo->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(options.bind_address));
  gloo->threads = 1;  // calls run in the order in which they begin, on the training thread or on autograd's
  try {
    auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(options.store, options.rank, options.size, gloo);
    backend->setTimeout(options.timeout);
    return std::make_unique<BackendComm>(std::move(backend), "Gloo", at::Device(at::kCPU), options);
  } catch (const std::exception& error) {
    throw PeerLost("Gloo connect " + place_of(options) + " at " + options.bind_address + ": " + error.what());
  }
}

}  // namespace trainyard::mesh
