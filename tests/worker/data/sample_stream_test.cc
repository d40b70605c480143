#include "worker/data/sample_stream.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "tests/worker/data/scratch_folder.h"
#include "worker/data/partition.h"

namespace trainyard::data {
namespace {

using contract::UserError;

std::string counting(std::size_t size, char first) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += static_cast<char>(first + static_cast<char>(i % 26));
  return text;
}

class SampleStreamTest : public testing::Test {
 protected:
  SampleStreamTest() {
    data_.sequenceLength = 4;
    data_.train = {{.path = folder_.write("a", counting(4 * 10 + 1, 'a')), .weight = 3.0},
                   {.path = folder_.write("b", counting(4 * 7 + 3, 'A')), .weight = 1.0}};
    data_.validation = data_.train;
  }
  SampleStream stream(std::int64_t seed = 1) const { return {data_, 256, seed}; }

  ScratchFolder folder_;
  contract::Data data_;
};

TEST_F(SampleStreamTest, CutsSourcesAtTheStrideOfTheSequenceLengthWithTargetsOnePositionOn) {
  const SampleSet set("data.validation", data_.validation, 4, 256);
  EXPECT_EQ(set.num_samples(0), 10);
  EXPECT_EQ(set.num_samples(1), 7);  // the last 2 tokens of 31 make no sample
  const auto batch = set.read(9, 2);
  const auto row = [](const char* text) { return at::tensor(std::vector<std::int64_t>(text, text + 4)); };
  EXPECT_TRUE(batch.tokens_BT.equal(at::stack({row("klmn"), row("ABCD")})));
  EXPECT_TRUE(batch.targets_BT.equal(at::stack({row("lmno"), row("BCDE")})));
  EXPECT_EQ(batch.tokens_BT.scalar_type(), at::kLong);
}

TEST_F(SampleStreamTest, CutsASampleIntoTheShorterSequencesOfACurriculum) {
  const SampleSet whole("data.train", data_.train, 4, 256), halves("data.train", data_.train, 2, 256);
  const auto batch = whole.read(3, 2), wanted = halves.read(6, 4);  // of the first source, whose places are the same
  EXPECT_TRUE(batch.tokens_BT.view({4, 2}).equal(wanted.tokens_BT));
  EXPECT_TRUE(batch.targets_BT.view({4, 2}).equal(wanted.targets_BT));
}

TEST_F(SampleStreamTest, ReadsEachSampleOnceInAnEvaluation) {
  const SampleSet set("data.validation", data_.validation, 4, 256);
  std::set<SampleId> seen;
  for (std::int64_t i = 0; i < set.num_samples(); ++i) seen.insert(set.at(i));
  EXPECT_EQ(seen.size(), 17u);
  EXPECT_THROW(set.at(17), std::invalid_argument);
}

TEST_F(SampleStreamTest, TakesEachSampleOfASourceOnceInEachPassAndInAnotherOrderEachTime) {
  const auto train = stream();
  auto cursor = train.begin();
  std::map<std::int32_t, std::vector<std::int64_t>> order;
  for (const auto& sample : train.next(cursor, 400)) order[sample.source].push_back(sample.index);
  ASSERT_EQ(order[0].size(), 300u);
  ASSERT_EQ(order[1].size(), 100u);
  for (auto& [source, indices] : order) {
    const auto size = train.set().num_samples(source);
    for (std::size_t pass = 0; pass + 1 < indices.size() / static_cast<std::size_t>(size); ++pass) {
      const auto begin = indices.begin() + static_cast<std::ptrdiff_t>(pass) * size;
      EXPECT_EQ(std::set<std::int64_t>(begin, begin + size).size(), static_cast<std::size_t>(size));
    }
    EXPECT_FALSE(std::equal(indices.begin(), indices.begin() + size, indices.begin() + size));
  }
  EXPECT_EQ(cursor, (Cursor{.samples = 400, .tokens = 1600, .consumed = {300, 100}}));
}

TEST_F(SampleStreamTest, GivesTheSameOrderWhateverTheBatchSizeIs) {
  const auto train = stream();
  auto cursor = train.begin();
  const auto whole = train.next(cursor, 120);
  for (const std::int64_t batch : {1, 2, 3, 5, 8, 40}) {
    auto resumed = train.begin();
    std::vector<SampleId> parts;
    while (resumed.samples < 120) {
      const auto step = train.next(resumed, batch);
      parts.insert(parts.end(), step.begin(), step.end());
    }
    EXPECT_EQ(parts, whole);
    EXPECT_EQ(resumed, cursor);
  }
}

TEST_F(SampleStreamTest, NeitherRepeatsNorSkipsWhenAResumeChangesBatchAndDataDegree) {
  const auto train = stream();
  auto reference = train.begin();
  const auto whole = train.next(reference, 8 * 3 + 12 * 2);
  std::vector<SampleId> trained;
  auto cursor = train.begin();
  const auto run = [&](std::int64_t global_batch, std::int32_t dp, int steps) {
    // As in a checkpoint: only the cursor's JSON survives, and the stream is opened anew.
    const auto restored = contract::decode<Cursor>(contract::encode(cursor));
    ASSERT_TRUE(restored.problems.empty());
    cursor = restored.value;
    const auto opened = stream();
    for (int i = 0; i < steps; ++i) {
      const auto step = opened.next(cursor, global_batch);
      for (std::int32_t rank = 0; rank < dp; ++rank) {
        for (const auto& range : micro_batches(global_batch, dp, rank, 2).ranges) {
          trained.insert(trained.end(), step.begin() + range.first, step.begin() + range.first + range.count);
        }
      }
    }
  };
  run(8, 2, 3);
  run(12, 3, 2);
  EXPECT_EQ(trained, whole);
}

TEST_F(SampleStreamTest, GivesAnotherOrderForAnotherSeed) {
  auto first = stream(1).begin();
  auto second = first;
  EXPECT_NE(stream(1).next(first, 40), stream(2).next(second, 40));
}

TEST_F(SampleStreamTest, NamesAllSourcesThatAreTooShortOrMissingAtOnce) {
  data_.train = {{.path = folder_.write("short", "abcd")}, {.path = "/data/none"}, data_.train[0]};
  try {
    stream();
    FAIL() << "the sources were accepted";
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.reason(), "CorpusTooShort");
    EXPECT_NE(message.find("data.train[0].path: "), std::string::npos) << message;
    EXPECT_NE(message.find("holds 4 tokens, and one sample needs 5"), std::string::npos) << message;
    EXPECT_NE(message.find("data.train[1].path: /data/none does not exist"), std::string::npos) << message;
    EXPECT_EQ(message.find("data.train[2]"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace trainyard::data
