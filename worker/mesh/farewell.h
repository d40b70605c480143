#pragma once
// How the ranks of a gang part at an end that is as it should be.

#include <chrono>
#include <cstdint>

#include <torch/csrc/distributed/c10d/Store.hpp>

namespace trainyard::mesh {

/// Returns when every rank has come here, on rank 0, whose process keeps the store for all, when each other one has also read so: it would
/// take its answer with it, and theirs would end with words of a broken connection. Waits `most` at most twice, and throws nothing: what had
/// to be done together is done. Training thread.
void leave_together(c10d::Store& store, std::int32_t rank, std::int32_t world_size,
                    std::chrono::milliseconds most = std::chrono::seconds(30));

}  // namespace trainyard::mesh
