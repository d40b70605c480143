#include "controller/decide/template_shape.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "controller/decide/pod_template.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

std::vector<std::string> fields(const std::vector<contract::Problem>& problems) {
  std::vector<std::string> out;
  for (const auto& problem : problems) out.push_back(problem.field);
  return out;
}

TEST(ATemplate, NamesFieldsOfAnotherKindThanWhatIsAddedToThem) {
  const std::string terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
  for (const auto& [text, field] : {
           std::pair<std::string, std::string>{R"({"metadata": 5})", "metadata"},
           {R"({"metadata": {"labels": ["a"]}})", "metadata.labels"},
           {R"({"spec": {"volumes": {"name": "v"}}})", "spec.volumes"},
           {R"({"spec": {"volumes": [{"name": "v"}, 5]}})", "spec.volumes[1]"},
           {R"({"spec": {"tolerations": "all"}})", "spec.tolerations"},
           {R"({"spec": {"securityContext": true}})", "spec.securityContext"},
           {R"({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
               {"nodeSelectorTerms": [{}, 5]}}}}})",
            terms + "[1]"},
           {R"({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
               {"nodeSelectorTerms": [{}, {"matchFields": {}}]}}}}})",
            terms + "[1].matchFields"},
           {R"({"spec": {"initContainers": {"name": "i"}}})", "spec.initContainers"},
           {R"({"spec": {"containers": [{"name": "worker", "env": {"A": "b"}}]}})", "spec.containers[0].env"},
           {R"({"spec": {"containers": [{"name": "a"}, {"name": "worker", "env": [{}, null]}]}})", "spec.containers[1].env[1]"},
           {R"({"spec": {"containers": [{"name": "worker", "ports": 80}]}})", "spec.containers[0].ports"},
           {R"({"spec": {"containers": [{"name": "worker", "resources": {"limits": [1]}}]}})",
            "spec.containers[0].resources.limits"},
       }) {
    EXPECT_EQ(fields(shape_problems(Json::parse(text))), std::vector<std::string>{"spec.workers.template." + field}) << text;
  }
}

TEST(ATemplate, MayLeaveOutAnyOfThemOrHaveNull) {
  for (const char* text : {"{}", "5", R"({"spec": 5})", R"({"spec": {"containers": [5]}})",
                           R"({"metadata": {"labels": null}, "spec": {"volumes": null, "containers": [{"env": null}]}})"}) {
    EXPECT_EQ(fields(shape_problems(Json::parse(text))), std::vector<std::string>{}) << text << ": others look at these";
  }
}

TEST(ATemplate, IsRefusedForThemAllInOneMessageThatIsNotAsLongAsWhatIsWrong) {
  Job job = test::make_job("a", 2, 0);
  job.spec.workers.templ = {{"spec",
                             {{"volumes", std::string(10'000, 'x')},
                              {"containers", Json::array({{{"name", "worker"}, {"env", {{"NCCL_DEBUG", "INFO"}}}}})}}}};
  const auto problems = template_problems(job.spec, {.default_image = "registry.test/worker:1"});
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_LT(problems[0].message.size(), 200u);
  EXPECT_EQ(problems[1].message, R"(must be a list, and is {"NCCL_DEBUG":"INFO"})");
}

}  // namespace
}  // namespace trainyard::decide
