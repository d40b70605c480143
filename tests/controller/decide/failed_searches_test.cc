#include "controller/decide/failed_searches.h"

#include <random>

#include <gtest/gtest.h>

#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

TEST(AFailedSearch, SavesOnlySearchesThatWouldFailAsWellAndTellsWhatTheyWouldHaveFound) {
  int saved = 0;
  for (unsigned seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    const auto draw = [&random](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    test::ClusterBuilder builder;
    builder.racks(2).nodes_per_rack(2).gpus_per_node(8);
    for (int i = 0; i < 4; ++i) {
      const std::string name = "node-" + std::to_string(i);
      if (const int used = draw(0, 8); used > 0) builder.use(name, used);
      if (const int memory = draw(0, 3); memory > 0) {  // else nobody knows
        builder.change(name, [memory](Node& node) { node.labels["nvidia.com/gpu.memory"] = std::to_string(memory); });
      }
    }
    const Cluster cluster = builder.build();
    const Topology topology(cluster);
    FailedSearches failed;
    for (int i = 0; i < 12; ++i) {
      Gang gang{.count = draw(1, 4), .requests = {{test::kGpu, draw(1, 8)}, {"cpu", 1'000 * draw(0, 1)}}};
      if (draw(0, 3) == 0) gang.rules.selector["gpu"] = "none";
      if (draw(0, 1) == 0) gang.rules.device = DeviceNeed{.resource = test::kGpu, .bytes = std::int64_t{draw(1, 4)} << 20};
      if (draw(0, 3) == 0) gang.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
      const auto found = place_gang(topology, gang);
      const auto* none = std::get_if<NoRoom>(&found);
      if (const NoRoom* known = failed.find(gang, 0)) {
        ++saved;
        ASSERT_NE(none, nullptr) << seed;
        EXPECT_EQ(*known, *none) << seed;
      }
      if (none != nullptr) failed.add(gang, 0, none->fit_now, *none);
    }
  }
  EXPECT_GT(saved, 300);
}

TEST(AFailedSearch, IsThatOfGpusAsLargeAsItsRanksNeed) {
  Gang gang{.count = 2, .requests = {{test::kGpu, 8}}};
  const DeviceNeed need{.resource = test::kGpu, .bytes = 100}, other{.resource = test::kGpu, .bytes = 50};
  gang.rules.device = need;
  FailedSearches failed;
  failed.add(gang, 0, 1, {.fit_now = 1, .best_domain = ""});
  EXPECT_NE(failed.find(gang, 0), nullptr);
  gang.rules.device.reset();
  EXPECT_EQ(failed.find(gang, 0), nullptr) << "smaller ones may do";
  const auto find = [&](const DeviceNeed* device) { return failed.find(2, gang.requests, gang.rules, device, gang.pack, 0); };
  EXPECT_EQ(find(nullptr), nullptr);
  EXPECT_NE(find(&need), nullptr);
  EXPECT_EQ(find(&other), nullptr);
  gang.rules.selector["gpu"] = "large";
  EXPECT_EQ(find(&need), nullptr);
}

TEST(AFailedSearch, ThatFoundNoPlaceForOneIsThatOfWhoNeedsLargerGpusToo) {
  Gang gang{.count = 2, .requests = {{test::kGpu, 8}}};
  gang.rules.device = DeviceNeed{.resource = test::kGpu, .bytes = 100};
  FailedSearches failed;
  failed.add(gang, 0, 0, {.fit_now = 0, .best_domain = ""});
  gang.rules.device->bytes = 101;
  EXPECT_NE(failed.find(gang, 0), nullptr);
  gang.rules.device->bytes = 99;
  EXPECT_EQ(failed.find(gang, 0), nullptr);
  gang.rules.device = DeviceNeed{.resource = "nvidia.com/mig-3g.20gb", .bytes = 101};
  EXPECT_EQ(failed.find(gang, 0), nullptr) << "of the others' labels nothing is known";
}

TEST(AFailedSearch, SaysNothingOfOneThatHasLessToLeaveAlone) {
  const Gang gang{.count = 2, .requests = {{test::kGpu, 8}}};
  FailedSearches failed;
  failed.add(gang, 0b01, 1, {.fit_now = 1, .best_domain = ""});
  EXPECT_NE(failed.find(gang, 0b01), nullptr);
  EXPECT_NE(failed.find(gang, 0b11), nullptr);
  EXPECT_EQ(failed.find(gang, 0b10), nullptr);
}

}  // namespace
}  // namespace trainyard::decide
