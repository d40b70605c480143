#include "controller/decide/layout_answers.h"

#include <set>

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using std::chrono::seconds;
using test::at;

std::string question(int number) { return "question " + std::to_string(number); }

TEST(LayoutAnswers, AreKeptForThoseWhoAskTheSame) {
  LayoutAnswers answers;
  EXPECT_EQ(answers.find("a"), nullptr);
  EXPECT_EQ(answers.turn("a", at(0)), at(0));
  answers.put("a", "take more workers", at(0));
  ASSERT_NE(answers.find("a"), nullptr);
  EXPECT_EQ(*answers.find("a"), "take more workers");
  for (int i = 0; i < 1'000; ++i) answers.put(question(i), "", at(i));
  EXPECT_EQ(answers.size(), LayoutAnswers::kMost);
  EXPECT_EQ(answers.find("a"), nullptr);
}

TEST(LayoutAnswers, AreSearchedForOneASecondAndEachHasItsTurn) {
  LayoutAnswers answers;
  answers.put("a", "", at(0));
  std::set<Time> turns;
  for (int i = 0; i < 5; ++i) turns.insert(answers.turn(question(i), at(0)));
  EXPECT_EQ(turns, (std::set<Time>{at(1), at(2), at(3), at(4), at(5)}));
  EXPECT_EQ(answers.turn(question(2), at(0.5)), at(3)) << "asked again, it is told the same";
  EXPECT_EQ(answers.turn(question(0), at(1)), at(1));
  answers.put(question(0), "", at(1));
  EXPECT_EQ(answers.turn(question(1), at(1.5)), at(2));
}

TEST(LayoutAnswers, OfOneThatComesAtItsTurnAMomentAfterAnothersComeNextAndNotLast) {
  LayoutAnswers answers;
  answers.put("a", "", at(0));
  for (int i = 0; i < 100; ++i) answers.turn(question(i), at(0));
  answers.put(question(0), "", at(1.3));  // looked for a little late, as the brain had other things to do
  EXPECT_EQ(answers.turn(question(1), at(2)), at(2.3)) << "its turn was 2, and between two there is a second";
  EXPECT_EQ(answers.turn("new", at(2)), at(101)) << "who comes to the line meanwhile takes nobody's turn away";
  EXPECT_EQ(answers.turn(question(1), at(2.3)), at(2.3));
  answers.put(question(1), "", at(2.3));
  EXPECT_EQ(answers.turn(question(2), at(3)), at(3.3));
}

TEST(LayoutAnswers, OfThoseThatNeverComeAtTheirTurnAreForgotten) {
  LayoutAnswers answers;
  answers.put("a", "", at(0));
  for (std::size_t i = 0; i < LayoutAnswers::kMostTurns; ++i) answers.turn(question(static_cast<int>(i)), at(0));
  answers.put("b", "", at(5'000));
  EXPECT_EQ(answers.turn("c", at(5'000)), at(5'001));
  EXPECT_EQ(answers.turn("d", at(5'000)), at(5'002)) << "there is room for turns again";
}

TEST(LayoutAnswers, OfThoseThatComeWithinAMinuteOfTheirTurnAreNextAndOfThoseThatComeLaterLast) {
  LayoutAnswers answers;
  answers.put("a", "", at(0));
  EXPECT_EQ(answers.turn("late", at(0)), at(1));
  EXPECT_EQ(answers.turn("too late", at(0)), at(2));
  answers.put("b", "", at(60.5));
  EXPECT_EQ(answers.turn("new", at(60.5)), at(61.5));
  EXPECT_EQ(answers.turn("late", at(60.5)), at(61.5));
  answers.put("c", "", at(61.5));
  EXPECT_EQ(answers.turn("newer", at(62.25)), at(63.25));
  EXPECT_EQ(answers.turn("too late", at(62.25)), at(64.25));
}

TEST(LayoutAnswers, OfVeryManyDifferentQuestionsTakeNoMoreThanTheirTurns) {
  LayoutAnswers answers;
  answers.put("a", "", at(0));
  Time last = at(0);
  for (int i = 0; i < 5'000; ++i) last = std::max(last, answers.turn(question(i), at(0)));
  EXPECT_LE(last, at(1'001));
}

TEST(LayoutAnswers, WaitForNoClockThatWasSetBack) {
  LayoutAnswers answers;
  answers.put("a", "", at(3'600));
  EXPECT_EQ(answers.turn("b", at(0)), at(0));
}

/// 8B parameters on one rank's GPU of 80 GiB, with all their state: too large.
Job too_large(const std::string& name) {
  Job job = test::make_job(name, 1, 8);
  job.spec.model.size = contract::ModelSize{
      .layers = 32, .hiddenSize = 4096, .heads = 32, .keyValueHeads = 8, .feedForwardSize = 14336, .vocabularySize = 128256};
  job.spec.data.sequenceLength = 4096;
  job.spec.training.globalBatchSize = 8;
  return job;
}

TEST(Memory, ThatIsTooSmallIsToldAtOnceAndTheLayoutThatFitsInItsTurn) {
  test::World world(test::ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).gpu_model("H100", 81559).build());
  for (int i = 0; i < 4; ++i) {
    Job job = too_large("job-" + std::to_string(i));
    job.spec.training.globalBatchSize *= 1 + i;
    world.add(std::move(job));
  }
  for (int i = 0; i < 4; ++i) {
    Job like_the_first = too_large("like-" + std::to_string(i));
    like_the_first.spec.training.seed = 7 + i;
    like_the_first.spec.training.optimizer.learningRate *= 2 + i;
    like_the_first.spec.workers.templ["spec"]["containers"][0]["env"] = Json::array({{{"name", "RUN"}, {"value", "x"}}});
    world.add(std::move(like_the_first));
  }
  const auto num_told = [&world](const std::string& of) {
    int number = 0;
    for (int i = 0; i < 4; ++i) {
      const auto accepted = world.condition("Accepted", of + std::to_string(i));
      EXPECT_EQ(accepted.reason, "DoesNotFit");
      number += accepted.message.find(" layout that fits: ") != std::string::npos;
    }
    return number;
  };
  world.settle();
  EXPECT_EQ(num_told("job-"), 1);
  EXPECT_EQ(num_told("like-"), 4) << "they ask what the first asked";
  for (int i = 0; i < 30; ++i) {
    world.pass(1);
    EXPECT_LE(num_told("job-"), i + 2);
  }
  EXPECT_EQ(num_told("job-"), 4);
}

}  // namespace
}  // namespace trainyard::decide
