// A training whose checkpoints cannot be written or read.
#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/checkpoint/faulty_storage.h"
#include "tests/worker/trainer/a_training.h"

namespace trainyard::trainer {
namespace {

TEST(Train, GoesOnWhenTheVolumeIsFullAndSaysSo) {
  const Job job;
  checkpoint::FaultyStorage storage;
  storage.fill_after(10'000);
  const auto done = run(
      job, {}, 1,
      [&](std::int64_t asked) {
        if (asked == 5) storage.fill_after(std::int64_t{1} << 40);  // somebody has made room
        return stop_at(3)(asked);
      },
      &storage);
  EXPECT_EQ(done.outcome, Outcome::kFinished);  // not stopped: the checkpoint to stop after was never durable
  ASSERT_EQ(done.notices.size(), 1u);
  EXPECT_EQ(done.notices[0].notice->reason, "CheckpointFailed");
  EXPECT_NE(done.notices[0].notice->message.find("No space left on device"), std::string::npos);
  EXPECT_EQ(done.checkpoints.back().checkpoint->step, 6);
}

TEST(Train, FailsWhenItsLastCheckpointCannotBeWritten) {
  const Job job;
  checkpoint::FaultyStorage storage;
  storage.fill_after(10'000);
  try {
    run(job, {.dp = 2}, 1, {}, &storage);
    FAIL();
  } catch (const contract::UserError& error) {
    EXPECT_EQ(error.reason(), "CheckpointFailed");
    EXPECT_NE(std::string(error.what()).find("make room at checkpoint.path"), std::string::npos);
  }
}

TEST(Train, TriesItsLastCheckpointAgainWhileTheStorageFailsForTheMoment) {
  const Job job;
  checkpoint::FaultyStorage storage;
  const auto done = run(
      job, {}, 1,
      [&](std::int64_t asked) {
        if (asked == 6) storage.fail_to_create(2, EIO);
        return contract::RankControl{};
      },
      &storage);
  EXPECT_EQ(done.outcome, Outcome::kFinished);
  ASSERT_EQ(done.notices.size(), 2u);
  EXPECT_EQ(done.notices[0].notice->reason, "CheckpointFailed");
  EXPECT_NE(done.notices[1].notice->message.find("it is tried again in 2 s"), std::string::npos)
      << done.notices[1].notice->message;
  EXPECT_EQ(done.checkpoints.back().checkpoint->step, 6);
}

TEST(Train, LeavesALastCheckpointThatStorageFailsToTakeToTheInfrastructure) {
  const Job job;
  checkpoint::FaultyStorage storage;
  const auto control = [&](std::int64_t asked) {
    if (asked == 6) storage.fail_to_create(1'000'000, EIO);
    return contract::RankControl{};
  };
  try {
    run(job, {.dp = 2}, 1, control, &storage);
    FAIL();
  } catch (const checkpoint::StorageUnavailable& error) {
    EXPECT_NE(std::string(error.what()).find("the training is done, but its last checkpoint could not be written"),
              std::string::npos)
        << error.what();
  }
}

TEST(Train, GoesBackToTheCheckpointBeforeACorruptOneAndSaysSo) {
  Job job;
  job.spec.checkpoint->everySteps = 2;
  run(job, {}, 1, stop_at(4));
  std::ofstream(fs::path(job.spec.checkpoint->path) / "step-00000004" / "manifest.json") << "{}";
  const auto again = run(job, {}, 2);
  ASSERT_EQ(again.notices.size(), 2u);
  EXPECT_EQ(again.notices[0].notice->reason, "CheckpointCorrupt");
  EXPECT_EQ(again.notices[1].notice->reason, "Resumed");
  EXPECT_NE(again.notices[1].notice->message.find("step 2"), std::string::npos);
  const Job through;
  run(through);
  EXPECT_EQ(job.tensors_of(6), through.tensors_of(6));
}

TEST(Train, DoesNotStartWhereItsOnlyCheckpointIsDamagedWhicheverRankReadsThat) {
  Job job;
  job.spec.checkpoint->everySteps = 2;
  run(job, {.dp = 2}, 1, stop_at(2));
  const auto checkpoint = fs::path(job.spec.checkpoint->path) / "step-00000002";
  const auto file = checkpoint / "rank-00000.safetensors";
  {
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(-1, std::ios::end);
    bytes.put('\x55');
  }
  for (const auto& degrees : {contract::Degrees{}, {.dp = 2}, {.pp = 2}, {.tp = 2}}) {
    try {
      run(job, degrees, 2);
      FAIL() << "it trained";
    } catch (const contract::UserError& error) {
      EXPECT_EQ(error.reason(), "CheckpointsCorrupt");
      EXPECT_NE(std::string(error.what()).find("does not match the hash in its manifest"), std::string::npos) << error.what();
    }
    EXPECT_TRUE(fs::exists(file)) << "it may be mended";
  }
}

}  // namespace
}  // namespace trainyard::trainer
