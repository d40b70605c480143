#include "worker/mesh/connect.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <system_error>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "worker/mesh/backend_comm.h"
#include "worker/mesh/local_comm.h"

namespace trainyard::mesh {
namespace {

using contract::Axis;
using contract::RankConfig;

/// A socket that listens at the rendezvous on this rank's own address alone, not on every interface as TCPStore would by itself.
int listen_at(const std::string& address, std::int32_t port) {
  const auto fail = [&] {
    throw std::system_error(errno, std::generic_category(),
                            "listen for the other ranks at " + address + ":" + std::to_string(port));
  };
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<std::uint16_t>(port));
  if (inet_pton(AF_INET, address.c_str(), &at.sin_addr) != 1) {
    throw std::runtime_error("listen for the other ranks at " + address + ": bindAddress must be an IPv4 address");
  }
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (listener < 0) fail();
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || listen(listener, SOMAXCONN) != 0) {
    const int error = errno;
    close(listener);
    errno = error;
    fail();
  }
  return listener;
}

c10::intrusive_ptr<c10d::Store> open_store(const RankConfig& config) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(config.rendezvous.port);
  options.isServer = config.rank == 0;
  options.waitWorkers = false;
  options.timeout = std::chrono::seconds(config.spec.lifecycle.startTimeoutSeconds);
  if (options.isServer) options.masterListenFd = listen_at(config.bindAddress, config.rendezvous.port);
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(config.rendezvous.host, options);
    return c10::make_intrusive<c10d::PrefixStore>(config.jobUid + "/" + std::to_string(config.generation), std::move(store));
  } catch (const std::exception& error) {
    throw PeerLost("connect to rank 0 at " + config.rendezvous.host + ":" + std::to_string(config.rendezvous.port) + ": " +
                   error.what());
  }
}

class Connector {
 public:
  Connector(const RankConfig& config, const contract::Layout& layout, at::Device device)
      : config_(config), layout_(layout), device_(device), store_(open_store(config)) {}

  std::unique_ptr<Comm> group(const std::string& name, const std::vector<std::int32_t>& ranks) {
    if (ranks.size() == 1) return solo_comm();
    BackendOptions options;
    options.store = c10::make_intrusive<c10d::PrefixStore>(name + "-" + std::to_string(ranks.front()), store_);
    options.size = static_cast<std::int32_t>(ranks.size());
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i] == config_.rank) options.rank = static_cast<std::int32_t>(i);
    }
    options.bind_address = config_.bindAddress;
    options.device_index = device_.index();
    options.timeout = std::chrono::seconds(config_.spec.lifecycle.hangTimeoutSeconds.value_or(300));
#ifdef TRAINYARD_CUDA
    if (device_.is_cuda()) return nccl_comm(options);
#endif
    return gloo_comm(options);
  }
  std::unique_ptr<Comm> along(const std::string& name, Axis axis) { return group(name, layout_.group(axis, config_.rank)); }

 private:
  const RankConfig& config_;
  contract::Layout layout_;
  at::Device device_;
  c10::intrusive_ptr<c10d::Store> store_;
};

at::Device device_of(const RankConfig& config) {
  if (config.spec.workers.gpusPerWorker == 0) return at::Device(at::kCPU);
#ifdef TRAINYARD_CUDA
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(config.localRank));
#else
  throw std::runtime_error(
      "use a GPU, as spec.workers.gpusPerWorker asks: this trainyard-rank was built without CUDA; use the image for GPUs");
#endif
}

}  // namespace

std::unique_ptr<Mesh> connect(const RankConfig& config) {
  const contract::Layout layout(contract::degrees(config.spec), config.worldSize);
  const at::Device device = device_of(config);
  if (layout.world_size() == 1) {
    Mesh::Comms comms{.world = solo_comm(),
                      .data = solo_comm(),
                      .tensor = solo_comm(),
                      .pipeline = solo_comm(),
                      .activations = solo_comm(),
                      .gradients = solo_comm()};
    return std::make_unique<Mesh>(layout, config.rank, device, std::move(comms));
  }
  Connector connector(config, layout, device);
  std::vector<std::int32_t> everybody;
  for (std::int32_t rank = 0; rank < layout.world_size(); ++rank) everybody.push_back(rank);
  Mesh::Comms comms;
  comms.world = connector.group("world", everybody);
  comms.data = connector.along("data", Axis::kDp);
  comms.tensor = connector.along("tensor", Axis::kTp);
  comms.pipeline = connector.along("pipeline", Axis::kPp);
  comms.activations = connector.along("activations", Axis::kPp);
  comms.gradients = connector.along("gradients", Axis::kPp);
  return std::make_unique<Mesh>(layout, config.rank, device, std::move(comms));
}

}  // namespace trainyard::mesh
