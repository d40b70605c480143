#pragma once
// Ranks that are threads of one process: how tests run any layout in one program. And the Comm of every group of one rank.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "crds/contract/layout.h"
#include "worker/mesh/comm.h"
#include "worker/mesh/mesh.h"

namespace trainyard::mesh {

/// The groups of one set of threads. Sums are taken in rank order, so results are the same in every run.
class LocalWorld {
 public:
  /// How much the threads are like processes.
  struct Manners {
    /// Each end of a group's first call between two ranks, a send or a receive, waits for the other's: as NCCL, which then makes a
    /// communicator for the pair. Else a send never waits.
    bool pairs_meet = false;
    /// After which a call that waits throws PeerLost, as those of Gloo and NCCL do; 0: never.
    std::chrono::milliseconds timeout{0};
  };
  LocalWorld();
  explicit LocalWorld(Manners manners);
  ~LocalWorld();
  LocalWorld(const LocalWorld&) = delete;
  LocalWorld& operator=(const LocalWorld&) = delete;

  /// A group of `size` ranks; entry r belongs to the thread that plays rank r. They must not outlive this object.
  std::vector<std::unique_ptr<Comm>> make_group(std::int32_t size);
  /// The meshes of all ranks of a layout.
  std::vector<std::unique_ptr<Mesh>> make_meshes(const contract::Layout& layout);
  /// Every call that waits, and every later one, throws PeerLost, as if a process had died.
  void lose(const std::string& why);

 private:
  friend class LocalComm;
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

/// A group of one rank, in which every collective is a copy at most, and takes no memory.
std::unique_ptr<Comm> solo_comm();

}  // namespace trainyard::mesh
