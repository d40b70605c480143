#include "crds/contract/parse_json.h"

#include <string>

#include <gtest/gtest.h>

namespace trainyard::contract {
namespace {

std::string nested(std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); }

TEST(ParseJson, ReadsWhatNestsAsDeepAsAnythingOfOurs) {
  EXPECT_EQ(parse_json(R"({"a": [1, "}]{["], "b\"[": {}})"), Json::parse(R"({"a": [1, "}]{["], "b\"[": {}})"));
  EXPECT_FALSE(parse_json(nested(kDeepestJson)).is_discarded());
}

TEST(ParseJson, DiscardsWhatIsNoneAndWhatNestsDeeper) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("\"\xff\""), nested(kDeepestJson + 1), nested(1'000'000)}) {
    EXPECT_TRUE(parse_json(text).is_discarded()) << text.substr(0, 20);
  }
}

TEST(NestsTooDeep, CountsLevelsAndNotValues) {
  Json wide = Json::array();
  for (int i = 0; i < 1'000; ++i) wide.push_back(Json::array({i}));
  EXPECT_FALSE(nests_too_deep(wide));
  EXPECT_FALSE(nests_too_deep(parse_json(nested(kDeepestJson))));
  EXPECT_TRUE(nests_too_deep(Json::parse("[" + nested(kDeepestJson) + ", 1]")));
}

}  // namespace
}  // namespace trainyard::contract
