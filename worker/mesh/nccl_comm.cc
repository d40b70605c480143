#ifdef TRAINYARD_CUDA

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstdlib>
#include <memory>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "worker/mesh/backend_comm.h"

namespace trainyard::mesh {
namespace {

/// NCCL's sockets go by interface, and by default it takes the first that looks well: the pod's own, where the template names no other.
void use_interface_of(const std::string& address) {
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> all(found, freeifaddrs);
  for (const ifaddrs* item = all.get(); item != nullptr; item = item->ifa_next) {
    if (item->ifa_addr == nullptr) continue;
    const int family = item->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    char text[NI_MAXHOST];
    if (getnameinfo(item->ifa_addr, length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0 || address != text) continue;
    setenv("NCCL_SOCKET_IFNAME", ("=" + std::string(item->ifa_name)).c_str(), 0);  // "=": this one, not all that begin so
    return;
  }
}

}  // namespace

std::unique_ptr<Comm> nccl_comm(const BackendOptions& options) {
  auto nccl = c10d::ProcessGroupNCCL::Options::create();
  nccl->timeout = options.connect_timeout;
  use_interface_of(options.bind_address);
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(options.device_index));
  try {
    auto process_group = c10::make_intrusive<c10d::ProcessGroupNCCL>(options.store, options.rank, options.size, nccl);
    auto comm = std::make_unique<BackendComm>(process_group, "NCCL", device, options);
    // NCCL connects at its first call: here, so that a failure to connect shows at the start. Pairs: see meet_in_pairs().
    if (!options.point_to_point) comm->barrier();
    process_group->setTimeout(options.timeout);
    return comm;
  } catch (const PeerLost&) {
    throw;
  } catch (const std::exception& error) {
    if (tells_of_this_device(error)) throw;
    throw PeerLost("NCCL connect " + place_of(options) + ": " + error.what());
  }
}

}  // namespace trainyard::mesh

#endif  // TRAINYARD_CUDA
