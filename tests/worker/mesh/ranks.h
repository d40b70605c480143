#pragma once
// Runs a function as every rank of a layout, each on a thread of its own.

#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "worker/mesh/local_comm.h"

namespace trainyard::mesh {

/// Calls `body(mesh)` for each rank over LocalComm. When one throws, the others' collectives throw PeerLost, and the first cause is
/// thrown here.
inline void run_ranks(const contract::Layout& layout, const std::function<void(Mesh&)>& body, LocalWorld::Manners manners = {}) {
  LocalWorld world(manners);
  const auto meshes = world.make_meshes(layout);
  std::vector<std::exception_ptr> errors(meshes.size());
  std::vector<std::jthread> threads;
  for (std::size_t rank = 0; rank < meshes.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(*meshes[rank]);
      } catch (const PeerLost&) {
        errors[rank] = std::current_exception();
      } catch (...) {
        errors[rank] = std::current_exception();
        world.lose("rank " + std::to_string(rank) + " ended");
      }
    });
  }
  threads.clear();
  std::exception_ptr secondary;
  for (const auto& error : errors) {
    if (!error) continue;
    try {
      std::rethrow_exception(error);
    } catch (const PeerLost&) {
      secondary = error;
    }
  }
  if (secondary) std::rethrow_exception(secondary);
}

}  // namespace trainyard::mesh
