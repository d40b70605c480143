#pragma once
// Real Gloo over loopback, the ranks as threads: each has its own store client, sockets and groups, as a process has. Only c10d's
// flight recorder is one for the process, and enters the groups that it meets without a lock: it is off here.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "worker/mesh/connect.h"

namespace trainyard::mesh {

inline const int kNoFlightRecorder = setenv("TORCH_FR_BUFFER_SIZE", "0", 1);  // read at the first collective

inline std::int32_t free_port() {
  const int probe = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  EXPECT_EQ(bind(probe, reinterpret_cast<sockaddr*>(&at), length), 0);
  EXPECT_EQ(getsockname(probe, reinterpret_cast<sockaddr*>(&at), &length), 0);
  close(probe);
  return ntohs(at.sin_port);
}

inline contract::RankConfig config_of(std::int32_t rank, std::int32_t world_size, std::int32_t port) {
  contract::RankConfig config;
  config.jobUid = "uid";
  config.generation = 1;
  config.rank = rank;
  config.worldSize = world_size;
  config.rendezvous = {.host = "127.0.0.1", .port = port};
  config.bindAddress = "127.0.0.1";
  config.spec.workers.count = world_size;
  config.spec.lifecycle.startTimeoutSeconds = 30;
  config.spec.lifecycle.hangTimeoutSeconds = 30;
  return config;
}

/// Calls `body(mesh)` for each rank, whose configuration `edit` has changed. What one throws fails the test.
inline void connect_ranks(std::int32_t world_size, const std::function<void(contract::RankConfig&)>& edit,
                          const std::function<void(Mesh&)>& body) {
  const std::int32_t port = free_port();
  std::vector<std::jthread> threads;
  threads.reserve(static_cast<std::size_t>(world_size));
  for (std::int32_t rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      auto config = config_of(rank, world_size, port);
      edit(config);
      try {
        const auto mesh = connect(config);
        body(*mesh);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << rank << ": " << error.what();
      }
    });
  }
}

}  // namespace trainyard::mesh
