#include "worker/trainer/trace_file.h"

#include <sstream>

#include <gtest/gtest.h>

#include "crds/contract/fields.h"

namespace trainyard::trainer {
namespace {

TEST(ATrace, HasATrackForTheRanksWorkAndOneForEachGroup) {
  const std::vector<mesh::Event> events{
      {.name = "forward", .track = "work", .begin = 1, .end = 1.5, .micro_batch = 2, .chunk = 1},
      {.name = "all_reduce", .track = "data", .begin = 2, .end = 2.25, .number = 42, .elements = 4096}};
  std::stringstream text;
  write_trace(text, events, 3, 100);
  const auto trace = contract::Json::parse(text).at("traceEvents");
  ASSERT_EQ(trace.size(), 5u) << "the process, two tracks, two spans";
  EXPECT_EQ(trace[0].at("args").at("name"), "rank 3");
  const auto &forward = trace[3], &call = trace[4];
  EXPECT_EQ(forward, (contract::Json{{"ph", "X"},
                                     {"name", "forward 2"},
                                     {"cat", "work"},
                                     {"pid", 3},
                                     {"tid", 0},
                                     {"ts", 101e6},
                                     {"dur", 0.5e6},
                                     {"args", {{"microBatch", 2}, {"chunk", 1}}}}));
  EXPECT_EQ(call.at("cat"), "data");
  EXPECT_EQ(call.at("args"), (contract::Json{{"number", 42}, {"elements", 4096}}));
  EXPECT_NE(call.at("tid"), forward.at("tid"));
}

}  // namespace
}  // namespace trainyard::trainer
