// What the controller notices when the way to an agent is cut and nobody says so: no reset, no refusal, packets just vanish.

#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "controller/agents/polling_agents.h"
#include "tests/support/http_server.h"
#include "tests/support/inbox.h"

namespace trainyard::agents {
namespace {

using namespace std::chrono_literals;

/// Sets the loopback device of this thread's network namespace up or down.
bool set_loopback(bool up) {
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  const int control = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return false;
  bool done = ::ioctl(control, SIOCGIFFLAGS, &request) == 0;
  request.ifr_flags = static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
  done = done && ::ioctl(control, SIOCSIFFLAGS, &request) == 0;
  ::close(control);
  return done;
}

/// Runs `body` on a thread that has, with all threads it makes, a network of its own. False where that is not allowed (CAP_SYS_ADMIN).
bool on_a_network_of_its_own(const std::function<void()>& body) {
  bool may = false;
  std::jthread([&] {
    may = ::unshare(CLONE_NEWNET) == 0 && set_loopback(true);
    if (may) body();
  }).join();
  return may;
}

TEST(ACutLink, IsNoticedInTheMiddleOfALongPoll) {
  const bool ran = on_a_network_of_its_own([] {
    testing::HttpServer agent([](const testing::HttpSeen&, testing::HttpReply& reply) { reply.hold(); });
    testing::Inbox<Observation> observed;
    PollingAgents agents([&observed](Observation seen) { observed.put(std::move(seen)); }, {.silence = 2s});  // polls take 30 s
    const std::string address = "127.0.0.1:" + std::to_string(agent.port());
    const Target target{.pod_uid = "pod-uid", .address = address, .key = "key", .assignment = std::nullopt};
    agents.change_targets({{"pod-uid", target}});
    ASSERT_TRUE(agent.seen().take());
    ASSERT_TRUE(set_loopback(false));
    const auto seen = observed.take();
    ASSERT_TRUE(seen) << "nothing was noticed";
    EXPECT_FALSE(seen->state);
    EXPECT_TRUE(seen->error.starts_with("GET /v1/state")) << "a silent peer is not asked a second time first: " << seen->error;
  });
  if (!ran) GTEST_SKIP() << "this user may not make network namespaces";
}

}  // namespace
}  // namespace trainyard::agents
