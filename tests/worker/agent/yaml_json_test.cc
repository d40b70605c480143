#include "worker/agent/yaml_json.h"

#include <gtest/gtest.h>

namespace trainyard::agent {
namespace {

using nlohmann::json;

json value_of(const std::string& scalar) { return json_of_yaml("x: " + scalar).at(0).at("x"); }

std::string error_of(const std::string& text) {
  try {
    json_of_yaml(text);
  } catch (const YamlError& error) {
    return error.what();
  }
  return "";
}

TEST(YamlJson, ReadsMappingsAndSequences) {
  EXPECT_EQ(json_of_yaml("a: {b: [1, two]}\nc:\n- d: 3\n").at(0), json::parse(R"({"a": {"b": [1, "two"]}, "c": [{"d": 3}]})"));
}

TEST(YamlJson, ReadsPlainScalarsAsYaml11Does) {
  EXPECT_EQ(value_of("12"), 12);
  EXPECT_EQ(value_of("-12"), -12);
  EXPECT_EQ(value_of("0"), 0);
  EXPECT_EQ(value_of("5.0e-5"), 5.0e-5);
  EXPECT_EQ(value_of("-.5"), -0.5);
  EXPECT_EQ(value_of("true"), true);
  EXPECT_EQ(value_of("no"), false);
  EXPECT_EQ(value_of("~"), nullptr);
  EXPECT_EQ(value_of(""), nullptr);
  EXPECT_TRUE(value_of("12").is_number_integer());
  EXPECT_TRUE(value_of("12.0").is_number_float());
}

TEST(YamlJson, TakesForAStringWhatOnlySomeReadersTakeForANumber) {
  for (const char* text : {"5e-5", "010", "1.2.3", "v1", "1_000", ".", "0x10", "1:30"}) EXPECT_EQ(value_of(text), text);
}

TEST(YamlJson, KeepsQuotedScalarsStrings) {
  EXPECT_EQ(value_of("\"12\""), "12");
  EXPECT_EQ(value_of("'true'"), "true");
  EXPECT_EQ(value_of("''"), "");
  EXPECT_EQ(value_of("|\n  1\n"), "1\n");
  EXPECT_EQ(value_of("!!str 12"), "12");
}

TEST(YamlJson, FollowsAnchors) { EXPECT_EQ(json_of_yaml("a: &x {b: 1}\nc: *x\n").at(0).at("c").at("b"), 1); }

TEST(YamlJson, SaysThatAnAliasStandsForWhatItLiesIn) {
  EXPECT_EQ(error_of("spec: &a [*a]\n"),
            "line 1, column 7: nests deeper than 100 levels, or an alias stands for what it lies in");
}

TEST(YamlJson, SaysThatAliasesStandForMoreThanMemoryHolds) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last + ", " + last + ", " + last + "]\n";
  }
  EXPECT_NE(error_of(text).find("stand for more than 1,000,000 values"), std::string::npos) << error_of(text);
}

TEST(YamlJson, LeavesOutEmptyDocuments) { EXPECT_EQ(json_of_yaml("# nothing\n---\na: 1\n---\n---\nb: 2\n").size(), 2u); }

TEST(YamlJson, SaysWhereAKeyOccursTwice) {
  EXPECT_EQ(error_of("spec:\n  steps: 1\n  steps: 2\n"), "line 3, column 3: the key steps occurs twice in one mapping");
}

TEST(YamlJson, SaysWhereATextIsNoYaml) {
  EXPECT_EQ(error_of("a: [1,\nb: 2\n"), "line 3, column 1: end of sequence flow not found");
}

TEST(YamlJson, SaysThatACommaIsWhereADocumentWouldStart) {  // yaml-cpp would find empty documents there for ever
  const std::string why = "a comma outside of [ ] and { }: no document can start with it";
  EXPECT_EQ(error_of(","), "line 1, column 1: " + why);
  EXPECT_EQ(error_of("---\n,\n"), "line 2, column 1: " + why);
  EXPECT_EQ(error_of("- a: 1\n, b: 2\n"), "line 2, column 1: " + why);
  EXPECT_EQ(error_of("{a: 1}, b\n"), "line 1, column 7: " + why);
  EXPECT_EQ(error_of("'a',\n"), "line 1, column 4: " + why);
  EXPECT_EQ(error_of("&a,b c\n"), "line 1, column 3: " + why);
}

TEST(YamlJson, ReadsDocumentsHoweverTheyEnd) {
  EXPECT_EQ(json_of_yaml("%YAML 1.2\n---\na: 1\n...\n---\n[b, c]\n--- d\n---\n{e: 1, f: 2}\n...\n# end\n").size(), 4u);
  EXPECT_EQ(json_of_yaml("\xEF\xBB\xBF"
                         "a: 1, 2\r\n---\r\nb: 2\r\n"),
            (std::vector<json>{{{"a", "1, 2"}}, {{"b", 2}}}));
}

TEST(YamlJson, SaysThatALineIsIndentedByATab) {
  const std::string advice = "; YAML allows no tabs for indentation, and this line has one: use spaces";
  EXPECT_EQ(error_of("spec:\n  a: 1\n\tb: 2\n"), "line 3, column 1: illegal tab when looking for indentation" + advice);
  EXPECT_EQ(error_of("spec:\n\tsteps: 1\n"), "line 2, column 7: illegal map value" + advice);
  EXPECT_EQ(error_of("spec:\n  a:\n  \tb: 1\n"), "line 3, column 5: illegal map value" + advice);
  EXPECT_EQ(error_of("a:\n  b: 1:\t2\n"), "line 2, column 7: illegal map value") << "a tab elsewhere is no mistake";
}

}  // namespace
}  // namespace trainyard::agent
