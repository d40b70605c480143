#include "worker/mesh/farewell.h"

#include <exception>
#include <string>
#include <vector>

namespace trainyard::mesh {
namespace {

const std::vector<std::uint8_t> kYes{1};

std::string left(std::int32_t rank) { return "left " + std::to_string(rank); }

}  // namespace

void leave_together(c10d::Store& store, std::int32_t rank, std::int32_t world_size, std::chrono::milliseconds most) {
  try {
    if (store.add("leaving", 1) == world_size) store.set("all leave", kYes);
    store.wait({"all leave"}, most);
    if (rank != 0) return store.set(left(rank), kYes);  // which has no answer
    std::vector<std::string> others;
    for (std::int32_t other = 1; other < world_size; ++other) others.push_back(left(other));
    store.wait(others, most);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // Rank 0 may be gone, or one that never came, whose agent says why.
  }
}

}  // namespace trainyard::mesh
