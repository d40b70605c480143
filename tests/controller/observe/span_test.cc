#include "controller/observe/span.h"

#include <gtest/gtest.h>

namespace trainyard::observe {
namespace {

const std::string kTraceId(32, 'a'), kSpanId(16, 'b');
const std::string kGiven = "00-" + kTraceId + "-" + kSpanId + "-01";

TEST(ATraceparent, NamesTheTraceTheSpanAndWhetherItIsSampled) {
  EXPECT_EQ(parse_traceparent(kGiven), (TraceParent{.trace_id = kTraceId, .span_id = kSpanId, .sampled = true}));
  EXPECT_FALSE(parse_traceparent("00-" + kTraceId + "-" + kSpanId + "-00")->sampled);
  EXPECT_FALSE(parse_traceparent("00-" + kTraceId + "-" + kSpanId + "-a2")->sampled) << "other flags do not matter";
}

TEST(ATraceparent, OfALaterVersionIsReadAsFarAsItIsKnown) {
  EXPECT_TRUE(parse_traceparent("cc-" + kTraceId + "-" + kSpanId + "-01-what-comes"));
  EXPECT_FALSE(parse_traceparent("cc-" + kTraceId + "-" + kSpanId + "-01.what-comes"));
  EXPECT_FALSE(parse_traceparent(kGiven + "-more")) << "version 00 has no more";
  EXPECT_FALSE(parse_traceparent("ff" + kGiven.substr(2)));
}

TEST(ATraceparent, ThatIsNoneIsNone) {
  for (const std::string& text :
       {std::string(), std::string("00-1-2-01"), "00-" + std::string(32, '0') + "-" + kSpanId + "-01",
        "00-" + kTraceId + "-" + std::string(16, '0') + "-01", "00-" + std::string(32, 'A') + "-" + kSpanId + "-01",
        "00_" + kGiven.substr(3), kGiven.substr(0, 52) + "_01", kGiven.substr(0, 53) + "0g", kGiven.substr(0, 54)}) {
    EXPECT_FALSE(parse_traceparent(text)) << text;
  }
}

}  // namespace
}  // namespace trainyard::observe
