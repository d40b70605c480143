#include "controller/reconcile/dry_run_answers.h"

#include <string>

#include <gtest/gtest.h>

#include "crds/contract/names.h"

namespace trainyard::reconcile {
namespace {

using contract::Json;
using std::chrono::milliseconds;

decide::DryRunPod ask(const Json& spec, const std::string& job = "a") {
  return {{"default", job},
          "uid-" + job,
          "hash",
          {{"metadata",
            {{"name", job + "-0-1"},
             {"labels", {{contract::kJobLabel, job}, {"team", "x"}}},
             {"ownerReferences", Json::array({{{"uid", "uid-" + job}}})}}},
           {"spec", spec}}};
}

TEST(Likeness, IsTheSameOfPodsThatDifferInWhatFollowsFromTheirJobsNamesAlone) {
  const auto of = [](const std::string& job, const std::string& value) {
    Json env = Json::array({{{"name", "MASTER_ADDR"}, {"value", job}}, {{"name", "LEVEL"}, {"value", value}}});
    Json volume = {{"name", contract::kKeyVolume}, {"secret", {{"secretName", job + "-key"}, {"defaultMode", 292}}}};
    return likeness(ask({{"hostname", job + "-0-1"},
                         {"subdomain", "tj-" + job},
                         {"volumes", Json::array({std::move(volume)})},
                         {"containers", Json::array({{{"name", "worker"}, {"env", std::move(env)}}})}},
                        job));
  };
  EXPECT_EQ(of("a", "1"), of("b", "1"));
  EXPECT_NE(of("a", "1"), of("a", "2"));
  decide::DryRunPod elsewhere = ask(Json::object());
  elsewhere.job.ns = "other";
  EXPECT_NE(likeness(elsewhere), likeness(ask(Json::object())));
}

TEST(Likeness, IsThatOfAnyJson) {
  for (const char* text :
       {"5", R"({"volumes": 5})", R"({"volumes": [5, "x", null, {"name": 5}, {"name": "trainyard-key", "secret": 5}]})",
        R"({"containers": 5})", R"({"containers": [5, {"env": "x"}, {"env": {"A": "b"}}, {"env": [5, "x", {"name": 5}]}]})",
        R"({"initContainers": {"env": [1]}})"}) {
    EXPECT_EQ(likeness(ask(Json::parse(text))).size(), 64u) << text;
  }
  decide::DryRunPod none = ask({});
  for (const char* text : {"5", "[]", R"({"metadata": 5})", R"({"metadata": {"labels": []}})"}) {
    none.body = Json::parse(text);
    EXPECT_EQ(likeness(none).size(), 64u) << text;
  }
}

TEST(DryRunAnswers, AreKnownForAWhile) {
  DryRunAnswers answers;
  const milliseconds now{1'000};
  answers.put("a", {.accepted = true, .message = "first"}, now);
  ASSERT_NE(answers.find("a", now), nullptr);
  EXPECT_EQ(answers.find("b", now), nullptr);
  EXPECT_NE(answers.find("a", now + DryRunAnswers::kLasts - milliseconds(1)), nullptr);
  EXPECT_EQ(answers.find("a", now + DryRunAnswers::kLasts), nullptr);
  answers.put("a", {.accepted = true, .message = "second"}, now + DryRunAnswers::kLasts);
  EXPECT_EQ(answers.find("a", now + DryRunAnswers::kLasts)->message, "second");
}

TEST(DryRunAnswers, OfASweepAreSoManyAtMostTheLastOnes) {
  DryRunAnswers answers;
  for (std::size_t i = 0; i < 3 * DryRunAnswers::kMost; ++i) answers.put("job " + std::to_string(i), {.accepted = true}, {});
  EXPECT_EQ(answers.size(), DryRunAnswers::kMost);
  EXPECT_EQ(answers.find("job 0", {}), nullptr);
  EXPECT_NE(answers.find("job " + std::to_string(3 * DryRunAnswers::kMost - 1), {}), nullptr);
  answers.put("late", {.accepted = true}, DryRunAnswers::kLasts);
  EXPECT_EQ(answers.size(), 1u) << "those that hold no more are forgotten";
}

TEST(TemplateCheck, HasWhatAdmissionMadeOfThePodWhereTheServerTells) {
  const decide::DryRunPod asked = ask({{"containers", Json::array({{{"resources", {{"requests", {{"cpu", "1"}}}}}}})}});
  kube::Response yes{.status = 201, .body = asked.body};
  yes.body["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "3";
  EXPECT_EQ(template_check(asked, yes, {}).needs.requests["cpu"], 3'000);
  const kube::Response no{.status = 422, .body = {}, .reason = "Invalid", .message = "no such thing"};
  EXPECT_FALSE(template_check(asked, no, {}).accepted);
  EXPECT_EQ(template_check(asked, no, {}).message, "no such thing");
  EXPECT_EQ(template_check(asked, no, {}).needs.requests["cpu"], 1'000);
}

}  // namespace
}  // namespace trainyard::reconcile
