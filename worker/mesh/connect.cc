#include "worker/mesh/connect.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <system_error>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#ifdef TRAINYARD_CUDA
#include <c10/cuda/CUDAFunctions.h>
#endif

#include "crds/contract/user_error.h"
#include "worker/mesh/backend_comm.h"
#include "worker/mesh/farewell.h"
#include "worker/mesh/local_comm.h"
#include "worker/mesh/meeting.h"
#include "worker/mesh/watched_comm.h"
#include "worker/plan/stages.h"

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
  addrinfo hints{}, *found = nullptr;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    throw std::runtime_error("listen for the other ranks at " + address + ": bindAddress must be an IPv4 or IPv6 address");
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> at(found, freeaddrinfo);
  const int listener = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (listener < 0) fail();
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, at->ai_addr, at->ai_addrlen) != 0 || listen(listener, SOMAXCONN) != 0) {
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
  Connector(const RankConfig& config, const contract::Layout& layout, at::Device device, Timeline& timeline)
      : config_(config), layout_(layout), device_(device), timeline_(timeline), store_(open_store(config)) {}

  enum class Use { kCollectives, kPointToPoint };

  std::unique_ptr<Comm> group(const std::string& name, const std::vector<std::int32_t>& ranks, Use use = Use::kCollectives) {
    if (ranks.size() == 1) return solo_comm();
    BackendOptions options;
    options.store = c10::make_intrusive<c10d::PrefixStore>(name + "-" + std::to_string(ranks.front()), store_);
    options.size = static_cast<std::int32_t>(ranks.size());
    options.group = name;
    options.ranks = ranks;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i] == config_.rank) options.rank = static_cast<std::int32_t>(i);
    }
    options.bind_address = config_.bindAddress;
    options.device_index = device_.has_index() ? std::int32_t{device_.index()} : -1;
    options.point_to_point = use == Use::kPointToPoint;
    options.connect_timeout = std::chrono::seconds(config_.spec.lifecycle.startTimeoutSeconds);
    options.timeout = timeout();
    return std::make_unique<WatchedComm>(backend(options), timeline_, name, ranks);
  }
  std::unique_ptr<Comm> along(const std::string& name, Axis axis, Use use = Use::kCollectives) {
    return group(name, layout_.group(axis, config_.rank), use);
  }
  std::function<void()> farewell() const {
    return [store = store_, rank = config_.rank, size = layout_.world_size()] { leave_together(*store, rank, size); };
  }

 private:
  std::chrono::seconds timeout() const {
    const auto& hang = config_.spec.lifecycle.hangTimeoutSeconds;
    return std::chrono::seconds(hang ? 2 * *hang + config_.spec.lifecycle.startTimeoutSeconds + 30 : 300);
  }
  std::unique_ptr<Comm> backend(const BackendOptions& options) const {
#ifdef TRAINYARD_CUDA
    if (device_.is_cuda()) return nccl_comm(options);
#endif
    return gloo_comm(options);
  }

  const RankConfig& config_;
  contract::Layout layout_;
  at::Device device_;
  Timeline& timeline_;
  c10::intrusive_ptr<c10d::Store> store_;
};

at::Device device_of(const RankConfig& config) {
  if (config.spec.workers.gpusPerWorker == 0) return at::Device(at::kCPU);
#ifdef TRAINYARD_CUDA
  if (config.localRank >= c10::cuda::device_count()) {
    throw std::runtime_error("rank " + std::to_string(config.rank) + " is to use GPU " + std::to_string(config.localRank) +
                             " of its pod, in which the CUDA runtime finds " + std::to_string(c10::cuda::device_count()) +
                             ": is the node's driver installed and new enough for this image, and no GPU of it broken?");
  }
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(config.localRank));
#else
  throw contract::UserError("GpuUnavailable",
                            "spec.workers.gpusPerWorker is " + std::to_string(config.spec.workers.gpusPerWorker) +
                                ", but this image's trainyard-rank was built without CUDA: name an image for GPUs in "
                                "spec.workers.template, or set gpusPerWorker to 0 to train on the CPU");
#endif
}

}  // namespace

std::unique_ptr<Mesh> connect(const RankConfig& config, std::shared_ptr<Timeline> timeline) {
  const contract::Layout layout(contract::degrees(config.spec), config.worldSize);
  const at::Device device = device_of(config);
  if (layout.world_size() == 1) {
    Mesh::Comms comms{.world = solo_comm(),
                      .data = solo_comm(),
                      .tensor = solo_comm(),
                      .pipeline = solo_comm(),
                      .activations = solo_comm(),
                      .gradients = solo_comm(),
                      .activations_around = solo_comm(),
                      .gradients_around = solo_comm()};
    return std::make_unique<Mesh>(layout, config.rank, device, std::move(comms), std::function<void()>{}, std::move(timeline));
  }
  Connector connector(config, layout, device, *timeline);
  std::vector<std::int32_t> everybody(static_cast<std::size_t>(layout.world_size()));
  std::iota(everybody.begin(), everybody.end(), 0);
  Mesh::Comms comms;
  comms.world = connector.group("world", everybody);
  comms.data = connector.along("data", Axis::kDp);
  if (layout.degrees().shard < layout.degrees().dp) {
    comms.shards = connector.group("shards", layout.shard_group(config.rank));
    comms.replicas = connector.group("replicas", layout.replica_group(config.rank));
  }
  comms.tensor = connector.along("tensor", Axis::kTp);
  comms.pipeline = connector.along("pipeline", Axis::kPp);
  comms.activations = connector.along("activations", Axis::kPp, Connector::Use::kPointToPoint);
  comms.gradients = connector.along("gradients", Axis::kPp, Connector::Use::kPointToPoint);
  const bool around = plan::chunks_per_stage(config.spec.parallelism) > 1;
  if (around) {
    comms.activations_around = connector.along("activations-around", Axis::kPp, Connector::Use::kPointToPoint);
    comms.gradients_around = connector.along("gradients-around", Axis::kPp, Connector::Use::kPointToPoint);
  } else {
    comms.activations_around = solo_comm();
    comms.gradients_around = solo_comm();
  }
  auto mesh = std::make_unique<Mesh>(layout, config.rank, device, std::move(comms), connector.farewell(), std::move(timeline));
  meet_in_pairs(*mesh, config.spec.model.size && config.spec.model.size->tieEmbeddings, around);
  return mesh;
}

}  // namespace trainyard::mesh
