#include "controller/kube/watch_lines.h"

#include <gtest/gtest.h>

namespace trainyard::kube {
namespace {

std::string line(const std::string& type, const std::string& name, int version) {
  return R"({"type":")" + type + R"(","object":{"metadata":{"name":")" + name + R"(","resourceVersion":")" +
         std::to_string(version) + "\"}}}\n";
}

TEST(WatchLines, GivesAllEventsOfTheBytesInOrder) {
  WatchLines lines;
  const WatchNews news = lines.feed(line("ADDED", "a", 1) + line("MODIFIED", "a", 2) + line("DELETED", "a", 3));
  ASSERT_EQ(news.events.size(), 3u);
  EXPECT_EQ(news.events[0].type, EventType::kAdded);
  EXPECT_EQ(news.events[1].type, EventType::kModified);
  EXPECT_EQ(news.events[2].type, EventType::kDeleted);
  EXPECT_EQ(news.events[2].object->at("metadata").at("name"), "a");
  EXPECT_EQ(news.resource_version, "3");
  EXPECT_EQ(news.error, "");
}

TEST(WatchLines, PutsTogetherWhatTheNetworkCutAnywhere) {
  const std::string text = line("ADDED", "a", 1) + line("ADDED", "b", 2);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    WatchLines lines;
    const auto first = lines.feed(text.substr(0, cut)), second = lines.feed(text.substr(cut));
    EXPECT_EQ(first.events.size() + second.events.size(), 2u) << "cut at " << cut;
    EXPECT_EQ(first.error + second.error, "");
  }
}

TEST(WatchLines, ABookmarkMovesOnlyTheVersion) {
  WatchLines lines;
  const WatchNews news = lines.feed(line("BOOKMARK", "", 9));
  EXPECT_TRUE(news.events.empty());
  EXPECT_EQ(news.resource_version, "9");
}

TEST(WatchLines, AnExpiredHistoryIsToldFromOtherErrors) {
  const WatchNews expired =
      WatchLines().feed(R"({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}})"
                        "\n");
  EXPECT_TRUE(expired.expired);
  EXPECT_EQ(expired.error, "the server ended the watch: too old");
  const WatchNews other =
      WatchLines().feed(R"({"type":"ERROR","object":{"kind":"Status","code":500,"reason":"InternalError","message":"etcd"}})"
                        "\n");
  EXPECT_FALSE(other.expired);
  EXPECT_EQ(other.error, "the server ended the watch: etcd");
}

TEST(WatchLines, KeepsWhatCameBeforeALineThatIsNone) {
  for (const std::string bad : {"nonsense\n", "{}\n", "[1]\n", "{\"type\":\"ADDED\",\"object\":7}\n", "null\n"}) {
    const WatchNews news = WatchLines().feed(line("ADDED", "a", 1) + bad);
    EXPECT_EQ(news.events.size(), 1u);
    EXPECT_NE(news.error.find("no line of a watch"), std::string::npos) << bad;
  }
}

}  // namespace
}  // namespace trainyard::kube
