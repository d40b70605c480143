#include "worker/mesh/host_link.h"

#include <gtest/gtest.h>

#include "tests/worker/mesh/late_link.h"

namespace trainyard::mesh {
namespace {

TEST(HostLink, OfACpuDoesItsWorkAtOnceSinceBothAreOneMemory) {
  const auto link = host_link(at::kCPU);
  const at::Tensor from = at::ones({4}), to = link->memory({4}, at::kFloat);
  const auto crossing = link->start(Way::kUp, [&] { to.copy_(from); });
  EXPECT_TRUE(at::equal(to, from));
  crossing->wait_on_device();
  crossing->wait_on_host();
  EXPECT_EQ(link->memory({2, 3}, at::kBFloat16).sizes(), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(link->passing_memory({0, 3}, at::kFloat).numel(), 0);
}

TEST(HostLink, ThatIsLateDoesItsWorkInOrderEachWayAndNotBefore) {
  std::atomic<std::int64_t> bytes = 0;
  LateLink link(1, &bytes);
  std::string done;
  {
    const at::Tensor memory = link.memory({3}, at::kFloat);
    EXPECT_EQ(bytes, 12);
    EXPECT_TRUE(memory.isnan().all().item<bool>());
    const auto first = link.start(Way::kDown, [&] { done += "a"; }), second = link.start(Way::kDown, [&] { done += "b"; }),
               other = link.start(Way::kUp, [&] { done += "c"; }), third = link.start(Way::kDown, [&] { done += "d"; });
    EXPECT_EQ(done, "");
    second->wait_on_host();
    first->wait_on_device();
    EXPECT_EQ(done, "ab");
    third->wait_on_host();
    EXPECT_EQ(done, "abd");
  }
  EXPECT_EQ(bytes, 0);
}

}  // namespace
}  // namespace trainyard::mesh
