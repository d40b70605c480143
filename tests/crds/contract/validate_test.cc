#include "crds/contract/validate.h"

#include <gtest/gtest.h>

// What validate() says to each kind of mistake stands in tests/crds/cases.yaml, which the API server answers too.

namespace trainyard::contract {
namespace {

Json good_manifest() {
  return Json::parse(R"({
    "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "tiny"},
    "spec": {
      "workers": {"count": 2},
      "model": {"size": {"layers": 4, "hiddenSize": 128, "heads": 4, "feedForwardSize": 384, "vocabularySize": 256}},
      "data": {"train": [{"path": "/data/train"}], "sequenceLength": 64},
      "training": {"steps": 500, "globalBatchSize": 16, "optimizer": {"learningRate": 2.0e-3}}
    }})");
}

std::string problems_of(Json manifest, const char* patch) {
  manifest.merge_patch(Json::parse(patch));
  return to_text(read_manifest(manifest).problems);
}

TEST(ReadManifest, GivesTheNameAndTheSpecOfAGoodOne) {
  const Manifest manifest = read_manifest(good_manifest());
  EXPECT_EQ(to_text(manifest.problems), "");
  EXPECT_EQ(manifest.name, "tiny");
  EXPECT_EQ(manifest.spec.workers.count, 2);
  EXPECT_EQ(manifest.spec.training.steps, 500);
}

TEST(ReadManifest, SaysWhenItIsAnotherKindOfObject) {
  EXPECT_EQ(problems_of(good_manifest(), R"({"apiVersion": "batch/v1", "kind": "Job", "spec": {"completions": 1}})"),
            "apiVersion: must be trainyard.dev/v1alpha1, and is batch/v1\n"
            "kind: must be TrainingJob, and is Job\n");
  EXPECT_EQ(problems_of(good_manifest(), R"({"apiVersion": null})"),
            "apiVersion: must be trainyard.dev/v1alpha1, and is missing\n");
  EXPECT_EQ(to_text(read_manifest(Json::array()).problems), ": must be a manifest of a TrainingJob, and is no object\n");
}

TEST(ReadManifest, ListsAllProblemsAtOnceOfEverySort) {
  EXPECT_EQ(problems_of(good_manifest(), R"({"metadata": {"name": null}, "sepc": {}, "spec": {
                "workers": {"cuont": 3, "count": "two"}, "parallelism": {"sequence": true}, "data": {"sequenceLength": null}}})"),
            "metadata.name: Required value\n"
            "sepc: unknown field; did you mean \"spec\"?\n"
            "spec.workers.count: must be a whole number, and is \"two\"\n"
            "spec.workers.cuont: unknown field; did you mean \"count\"?\n"
            "spec.data.sequenceLength: Required value\n"
            "spec.parallelism.sequence: needs tensor above 1, whose ranks share the tokens; set tensor, or leave sequence out\n");
}

TEST(ReadManifest, NamesWhatIsMissingWithoutBlamingItsDefault) {
  EXPECT_EQ(problems_of(good_manifest(), R"({"spec": null})"), "spec: Required value\n");
  EXPECT_EQ(problems_of(good_manifest(), R"({"spec": {"training": null, "model": {"size": {"heads": null}}}})"),
            "spec.training: must be given with the engine Trainyard\n"
            "spec.model.size.heads: Required value\n");
}

TEST(ReadManifest, LeavesThePodTemplateToTheApiServer) {
  EXPECT_EQ(problems_of(good_manifest(), R"({"spec": {"workers": {"template": {"spec": {"anything": [{"at": "all"}]}}}}})"), "");
}

TEST(Validate, HoldsAgainstNumbersThatOverflowWhenMultiplied) {
  TrainingJobSpec spec = read_manifest(good_manifest()).spec;
  for (auto* degree : {&spec.parallelism.tensor, &spec.parallelism.pipeline, &spec.parallelism.context}) *degree = INT32_MAX;
  spec.parallelism.data = INT32_MAX;
  EXPECT_GE(validate(spec).size(), 4u);
  for (auto* degree : {&spec.parallelism.tensor, &spec.parallelism.pipeline, &spec.parallelism.context}) *degree = 0;
  spec.parallelism.data = 0;
  spec.parallelism.microBatchSize = 0;
  spec.model.size->heads = 0;
  spec.model.size->keyValueHeads = 0;
  EXPECT_GE(validate(spec).size(), 7u);
}

TEST(Validate, RefusesASpecThatNobodyFilledIn) {
  std::string text = to_text(validate(TrainingJobSpec{}));
  for (const char* field : {"spec.data.train: ", "spec.data.sequenceLength: ", "spec.training.globalBatchSize: ",
                            "spec.training.optimizer.learningRate: ", "spec.model: ", "spec.training: "}) {
    EXPECT_NE(text.find(field), std::string::npos) << field << " is not in\n" << text;
  }
}

}  // namespace
}  // namespace trainyard::contract
