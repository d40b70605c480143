// The table of cases.yaml against validate.cc. tests/integration/crd asks a real API server the same.

#include "tests/crds/cases.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "crds/contract/queue.h"
#include "crds/contract/validate.h"
#include "tests/crds/yaml.h"
#include "tests/paths.h"

namespace trainyard::crd_test {
namespace {

using namespace trainyard::contract;

std::string sorted_text(std::vector<Problem> problems) {
  std::sort(problems.begin(), problems.end(),
            [](const Problem& a, const Problem& b) { return std::tie(a.field, a.message) < std::tie(b.field, b.message); });
  return to_text(problems);
}

TEST(Cases, AreAnsweredByReadManifestAsTheTableSays) {
  for (const Case& one : load_cases()) {
    std::vector<Problem> expected;
    for (const auto& problem : one.problems) expected.push_back({problem.field, problem.message});
    EXPECT_EQ(sorted_text(read_manifest(one.manifest).problems), sorted_text(expected)) << one.name;
  }
}

TEST(Cases, HaveNamesOfTheirOwnAndHoldBothSorts) {
  std::set<std::string> names;
  std::size_t accepted = 0, refused = 0;
  for (const Case& one : load_cases()) {
    names.insert(one.name);
    ++(one.problems.empty() ? accepted : refused);
  }
  EXPECT_EQ(names.size(), accepted + refused);
  EXPECT_GT(accepted, 20u);
  EXPECT_GT(refused, 60u);
}

/// All messages of rules in the schema, and the beginnings of those that are computed.
void collect_rules(const Json& schema, std::set<std::string>& out) {
  if (!schema.is_object()) return;
  for (const auto& rule : schema.value("x-kubernetes-validations", Json::array())) {
    const std::string message = rule.at("message"), expression = rule.value("messageExpression", "");
    if (message.starts_with("may not change")) continue;  // the table of changes
    const bool is_computed = expression.find('\'') != std::string::npos;
    const std::size_t quote = expression.find('\'') + 1;
    out.insert(is_computed ? expression.substr(quote, expression.find_first_of("'%", quote) - quote) : message);
  }
  for (const auto& item : schema.items()) collect_rules(item.value(), out);
}

TEST(Cases, TryEveryRuleOfTheSchema) {
  std::set<std::string> rules;
  collect_rules(load_schema(), rules);
  EXPECT_GT(rules.size(), 40u);
  std::vector<std::string> messages;
  for (const Case& one : load_cases()) {
    for (const auto& problem : one.problems) messages.push_back(problem.message);
  }
  for (const auto& rule : rules) {
    EXPECT_TRUE(std::any_of(messages.begin(), messages.end(), [&](const auto& message) { return message.starts_with(rule); }))
        << rule;
  }
}

TEST(Examples, AreAllAccepted) {
  int jobs = 0;
  for (const auto& file : std::filesystem::directory_iterator(test::kSourceDir + std::string("/crds/examples"))) {
    for (const Json& document : load_all("crds/examples/" + file.path().filename().string())) {
      if (document.value("kind", "") != "TrainingJob") continue;
      ++jobs;
      EXPECT_EQ(to_text(read_manifest(document).problems), "") << file.path();
    }
  }
  EXPECT_GE(jobs, 3);
}

TEST(Examples, ShowQueuesThatAreUnderstood) {
  int queues = 0;
  for (const Json& document : load_all("crds/examples/queues.yaml")) {
    if (document.value("kind", "") != kQueueKind) continue;
    ++queues;
    EXPECT_EQ(to_text(decode<TrainingQueueSpec>(document.at("spec"), "spec", UnknownFields::kRefuse).problems), "");
  }
  EXPECT_GE(queues, 3);
}

TEST(Readme, ShowsAJobThatIsAccepted) {
  std::ifstream file(test::kSourceDir + std::string("/README.md"));
  const std::string text{std::istreambuf_iterator<char>(file), {}}, fence = "```yaml\n";
  const std::size_t start = text.find(fence) + fence.size();
  const std::string manifest = text.substr(start, text.find("```", start) - start);
  EXPECT_EQ(to_text(read_manifest(json_from(YAML::Load(manifest))).problems), "") << manifest;
}

/// Adds the paths of all properties below `schema` that `manifest` does not have.
void collect_absent(const Json& schema, const Json& manifest, const std::string& path, std::set<std::string>& out) {
  const Json properties = schema.value("properties", Json::object());
  for (const auto& item : properties.items()) {
    const std::string here = path + "." + item.key();
    if (!manifest.contains(item.key())) {
      out.insert(here);
    } else if (item.value().value("type", "") == "array" && !manifest[item.key()].empty()) {
      collect_absent(item.value().at("items"), manifest[item.key()][0], here, out);
    } else {
      collect_absent(item.value(), manifest[item.key()], here, out);
    }
  }
}

TEST(Examples, EverythingHasEveryFieldThatCanBeSetNow) {
  std::set<std::string> absent;
  collect_absent(load_schema().at("properties").at("spec"), load("crds/examples/everything.yaml").at("spec"), "spec", absent);
  // Those that are not supported at any value, and the alternatives to epochs.
  EXPECT_EQ(absent, (std::set<std::string>{"spec.model.preset", "spec.model.path", "spec.data.tokenizer.path",
                                           "spec.data.curriculum.stages.untilStep", "spec.data.curriculum.stages.untilTokens",
                                           "spec.training.steps", "spec.training.tokens", "spec.training.precision.fp8"}));
}

}  // namespace
}  // namespace trainyard::crd_test
