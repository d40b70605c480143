#include "controller/observe/log.h"

#include <gtest/gtest.h>

namespace trainyard::observe {
namespace {

const contract::Time kTime{std::chrono::microseconds(1'767'323'045'678'901)};

TEST(LogLine, IsOneJsonObjectWithItsFieldsInOrder) {
  EXPECT_EQ(
      log_line(kTime, Level::kInfo, "gang placed", {{"job", "default/a"}, {"nodes", 32}, {"seconds", 0.4}}),
      R"({"time":"2026-01-02T03:04:05.678901Z","level":"info","message":"gang placed","job":"default/a","nodes":32,"seconds":0.4})");
}

TEST(LogLine, StaysOneLineWhateverIsInIt) {
  const std::string line = log_line(kTime, Level::kError, "broken\nhere", {{"te\"xt", "a\nb\xff"}});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(Json::parse(line).at("message"), "broken\nhere");
  EXPECT_EQ(Json::parse(line).at("te\"xt"), "a\nb\xEF\xBF\xBD") << "bytes that are no UTF-8 are replaced";
}

TEST(LogLine, TakesTheEntriesOfAnObjectToo) {
  EXPECT_EQ(log_line(kTime, Level::kInfo, "refused", Json{{"status", 422}, {"error", "bad"}}),
            R"({"time":"2026-01-02T03:04:05.678901Z","level":"info","message":"refused","error":"bad","status":422})");
}

TEST(Log, LeavesOutWhatIsBelowItsLevel) {
  std::vector<std::string> lines;
  const Log log(Level::kWarning, [&](std::string line) { lines.push_back(std::move(line)); });
  log.debug("a");
  log.info("b");
  log.warning("c", {{"one", 1}});
  log.error("d");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(Json::parse(lines[0]).at("level"), "warning");
  EXPECT_EQ(Json::parse(lines[0]).at("one"), 1);
  EXPECT_EQ(Json::parse(lines[1]).at("message"), "d");
}

TEST(Level, IsReadFromItsName) {
  for (const Level level : {Level::kDebug, Level::kInfo, Level::kWarning, Level::kError})
    EXPECT_EQ(level_from(name_of(level)), level);
  EXPECT_EQ(level_from("loud"), std::nullopt);
}

}  // namespace
}  // namespace trainyard::observe
