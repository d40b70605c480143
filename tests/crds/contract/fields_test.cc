#include "crds/contract/fields.h"

#include <gtest/gtest.h>

#include "crds/contract/job.h"

namespace trainyard::contract {
namespace {

TEST(Decode, NamesAMistypedFieldAndTheOneThatWasMeant) {
  const auto decoded = decode<TrainingJobSpec>(Json::parse(R"({"workers": {"cuont": 2}})"), "spec", UnknownFields::kRefuse);
  ASSERT_EQ(decoded.problems.size(), 1u);
  EXPECT_EQ(decoded.problems[0].field, "spec.workers.cuont");
  EXPECT_EQ(decoded.problems[0].message, "unknown field; did you mean \"count\"?");
}

TEST(Decode, ListsEveryProblemAtOnce) {
  const auto decoded = decode<TrainingJobSpec>(
      Json::parse(R"({"suspend": 1, "engine": "Trainyrad", "training": {"optimizer": {"learningRate": "5e-5"}}})"), "spec");
  EXPECT_EQ(to_text(decoded.problems),
            "spec.engine: \"Trainyrad\" is not one of: Trainyard, Custom; did you mean \"Trainyard\"?\n"
            "spec.suspend: must be true or false, and is 1\n"
            "spec.training.optimizer.learningRate: must be a number (written 5.0e-5, not 5e-5), and is \"5e-5\"\n");
}

TEST(Decode, TakesAWholeNumberWrittenAsAFloatAndRefusesAFraction) {
  EXPECT_EQ(decode<TrainingJobSpec>(Json::parse(R"({"training": {"steps": 500.0}})")).value.training.steps, 500);
  EXPECT_EQ(decode<TrainingJobSpec>(Json::parse(R"({"training": {"steps": 0.5}})")).problems.size(), 1u);
  EXPECT_EQ(decode<TrainingJobSpec>(Json::parse(R"({"workers": {"count": 3000000000}})")).problems.size(), 1u);
}

TEST(Encode, LeavesOutWhatIsNotSetAndReadsBackEqual) {
  TrainingJobSpec spec;
  spec.workers.processesPerWorker = 2;
  spec.workers.templ = Json::parse(R"({"spec": {"containers": []}})");
  spec.data.train.push_back({.path = "/data/train"});
  const Json json = encode(spec);
  EXPECT_FALSE(json.contains("queue"));
  EXPECT_EQ(json["workers"]["template"]["spec"]["containers"], Json::array());
  const auto decoded = decode<TrainingJobSpec>(json, "spec", UnknownFields::kRefuse);
  EXPECT_TRUE(decoded.problems.empty()) << to_text(decoded.problems);
  EXPECT_EQ(decoded.value, spec);
}

}  // namespace
}  // namespace trainyard::contract
