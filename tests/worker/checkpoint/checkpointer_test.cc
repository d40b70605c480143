#include "worker/checkpoint/checkpointer.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include "tests/worker/checkpoint/faulty_storage.h"
#include "tests/worker/checkpoint/ranks.h"
#include "tests/worker/data/scratch_folder.h"

namespace trainyard::checkpoint {
namespace {

using contract::UserError;

/// The reason and message with which a load on one rank is refused.
std::pair<std::string, std::string> refusal(const Options& options) {
  PosixStorage storage;
  try {
    run_ranks(1, [&](mesh::Comm& comm) {
      Checkpointer checkpointer(options, comm, storage);
      checkpointer.open();
      checkpointer.load(blank(cut_training(1, Cut::kReplicated, 0, 1)));
    });
  } catch (const UserError& error) {
    return {error.reason(), error.what()};
  }
  return {};
}

TEST(Checkpointer, LoadsWhatWasSavedInEachCutIntoEachOtherOfUpToFourRanks) {
  for (const std::int32_t writers : {1, 2, 3, 4}) {
    for (const auto written : kCuts) {
      const ScratchFolder folder;
      save(folder.path(), 100, writers, written);
      for (const std::int32_t readers : {1, 2, 3, 4}) {
        for (const auto read : kCuts) {
          SCOPED_TRACE(testing::Message() << writers << " ranks wrote cut " << static_cast<int>(written) << ", " << readers
                                          << " read cut " << static_cast<int>(read));
          expect_loads(folder.path(), 100, readers, read);
        }
      }
    }
  }
}

TEST(Checkpointer, StartsFromNothingWhereThereIsNoCheckpoint) {
  const ScratchFolder folder;
  PosixStorage storage;
  run_ranks(2, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path() / "new"), comm, storage);
    checkpointer.open();
    EXPECT_FALSE(checkpointer.load(cut_training(1, Cut::kRows, comm.rank(), 2)));
    EXPECT_FALSE(checkpointer.saving());
    EXPECT_FALSE(checkpointer.poll());
  });
}

TEST(Checkpointer, SavesBesideTheTrainingWhatTheTensorsHeldAtTheStart) {
  const ScratchFolder folder;
  PosixStorage storage;
  run_ranks(2, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path()), comm, storage);
    checkpointer.open();
    auto snapshot = snapshot_of(100, Cut::kRows, comm);
    snapshot.request = 7;
    EXPECT_FALSE(checkpointer.start(snapshot));
    for (auto& shard : snapshot.shards) shard.local.fill_(0);  // training goes on
    std::optional<Saved> saved;
    while (!saved) saved = checkpointer.poll();
    EXPECT_EQ(saved->step, 100);
    EXPECT_EQ(saved->request, 7);
    EXPECT_EQ(saved->failure, "");
    EXPECT_EQ(saved->status.path, (folder.path() / "step-00000100").string());
    EXPECT_EQ(saved->status.step, 100);
    EXPECT_EQ(saved->status.completedAt.size(), std::string("2026-01-02T03:04:05Z").size());
    EXPECT_FALSE(checkpointer.saving());
  });
  expect_loads(folder.path(), 100, 2, Cut::kRows);
}

TEST(Checkpointer, LoadsIntoParametersThatRequireGradients) {
  const ScratchFolder folder;
  save(folder.path(), 1);
  PosixStorage storage;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path()), comm, storage);
    checkpointer.open();
    const auto expected = snapshot_of(1, Cut::kReplicated, comm);
    auto shards = blank(expected.shards);
    for (auto& shard : shards) shard.local.set_requires_grad(at::isFloatingType(shard.local.scalar_type()));
    checkpointer.load(shards);
    EXPECT_TRUE(equal(shards, expected.shards));
    EXPECT_TRUE(shards[0].local.requires_grad());
    checkpointer.start({.step = 2, .state = {}, .shards = shards});
    EXPECT_EQ(checkpointer.finish()->failure, "");
  });
}

TEST(Checkpointer, WaitsForASaveBeforeItStartsTheNext) {
  const ScratchFolder folder;
  PosixStorage storage;
  run_ranks(2, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path()), comm, storage);
    checkpointer.open();
    checkpointer.start(snapshot_of(1, Cut::kRows, comm));
    const auto before = checkpointer.start(snapshot_of(2, Cut::kRows, comm));
    ASSERT_TRUE(before);
    EXPECT_EQ(before->step, 1);
    EXPECT_EQ(checkpointer.finish()->step, 2);
  });
  EXPECT_EQ(Directory(storage, folder.path()).steps(), (std::vector<std::int64_t>{1, 2}));
}

TEST(Checkpointer, DoesNotWriteAStepAgainThatIsDurable) {
  const ScratchFolder folder;
  PosixStorage storage;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path()), comm, storage);
    checkpointer.open();
    checkpointer.start(snapshot_of(1, Cut::kReplicated, comm));
    checkpointer.finish();
    const auto written = std::filesystem::last_write_time(folder.path() / "step-00000001/manifest.json");
    auto again = snapshot_of(1, Cut::kReplicated, comm);
    again.request = 3;
    checkpointer.start(again);
    const auto saved = checkpointer.poll();
    ASSERT_TRUE(saved);
    EXPECT_EQ(saved->request, 3);
    EXPECT_EQ(saved->failure, "");
    EXPECT_EQ(std::filesystem::last_write_time(folder.path() / "step-00000001/manifest.json"), written);
  });
}

TEST(Checkpointer, KeepsTheNewestCheckpointsOnly) {
  const ScratchFolder folder;
  for (const std::int64_t step : {1, 2, 3, 4}) save(folder.path(), step);
  PosixStorage storage;
  EXPECT_EQ(Directory(storage, folder.path()).steps(), (std::vector<std::int64_t>{3, 4}));
}

TEST(Checkpointer, KeepsTheBestBesideTheNewestAlsoThoseOfAnEarlierProcess) {
  const ScratchFolder folder;
  PosixStorage storage;
  const std::map<std::int64_t, double> losses{{1, 3.0}, {2, 1.0}, {3, 2.0}, {5, 2.5},
                                              {6, 1.5}, {7, 9.0}, {8, 8.0}};  // 4 has none
  const auto save_steps = [&](std::int64_t first, std::int64_t last) {
    run_ranks(2, [&](mesh::Comm& comm) {
      auto options = options_for(folder.path());
      options.keep_best = 2;
      options.loss_of = [&](std::int64_t step, const contract::Json&) {
        return losses.contains(step) ? std::optional(losses.at(step)) : std::nullopt;
      };
      Checkpointer checkpointer(options, comm, storage);
      checkpointer.open();
      for (auto step = first; step <= last; ++step) {
        checkpointer.start(snapshot_of(step, Cut::kRows, comm));
        EXPECT_EQ(checkpointer.finish()->failure, "");
      }
    });
  };
  const auto there = [&] { return Directory(storage, folder.path()).steps(); };
  save_steps(1, 4);
  EXPECT_EQ(there(), (std::vector<std::int64_t>{2, 3, 4})) << "the newest two, and the best two";
  save_steps(5, 8);
  EXPECT_EQ(there(), (std::vector<std::int64_t>{2, 6, 7, 8}));
}

TEST(Checkpointer, KeepsWhatMayBeTheBestWhileItCannotBeRead) {
  const ScratchFolder folder;
  FaultyStorage storage;
  const auto save_one = [&](std::int64_t step) {
    run_ranks(1, [&](mesh::Comm& comm) {
      auto options = options_for(folder.path());
      options.keep_best = 1;
      options.loss_of = [](std::int64_t at, const contract::Json&) { return std::optional(at == 1 ? 1.0 : 2.0); };
      Checkpointer checkpointer(options, comm, storage);
      checkpointer.open();
      checkpointer.start(snapshot_of(step, Cut::kRows, comm));
      EXPECT_EQ(checkpointer.finish()->failure, "");
    });
  };
  for (const std::int64_t step : {1, 2, 3}) save_one(step);
  storage.fail_to_open("step-00000001/manifest.json", EIO);
  save_one(4);
  const auto steps = Directory(storage, folder.path()).steps();
  EXPECT_EQ(std::count(steps.begin(), steps.end(), 1), 1);
}

TEST(Checkpointer, FallsBackFromACorruptCheckpointOnAllRanksAndSaysSo) {
  const ScratchFolder folder;
  save(folder.path(), 100, 2, Cut::kRows);
  save(folder.path(), 200, 2, Cut::kRows);
  const auto file = folder.path() / "step-00000200/rank-00001.safetensors";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  const auto loaded = expect_loads(folder.path(), 100, 3, Cut::kColumns);
  ASSERT_EQ(loaded.skipped.size(), 1u);
  EXPECT_NE(loaded.skipped[0].find(file.string() + " is corrupt"), std::string::npos) << loaded.skipped[0];
}

TEST(Checkpointer, ReplacesTheCorruptCheckpointWhenItComesToThatStepAgain) {
  const ScratchFolder folder;
  save(folder.path(), 100);
  save(folder.path(), 200);
  std::filesystem::remove(folder.path() / "step-00000200/manifest.json");
  expect_loads(folder.path(), 100);
  save(folder.path(), 200);
  EXPECT_TRUE(expect_loads(folder.path(), 200).skipped.empty());
}

TEST(Checkpointer, DropsCorruptCheckpointsThatLieAheadOnceANewOneIsDurable) {
  const ScratchFolder folder;
  save(folder.path(), 100);
  save(folder.path(), 200);
  std::filesystem::remove(folder.path() / "step-00000200/manifest.json");
  resume_and_save(folder.path(), 150);
  PosixStorage storage;
  EXPECT_EQ(Directory(storage, folder.path()).steps(), (std::vector<std::int64_t>{100, 150}));
}

TEST(Checkpointer, KeepsTheCheckpointThatItWentBackToWhateverCorruptOnesLieBetween) {
  const ScratchFolder folder;
  save(folder.path(), 100);
  save(folder.path(), 200);
  std::filesystem::remove(folder.path() / "step-00000200/manifest.json");
  resume_and_save(folder.path(), 300);
  PosixStorage storage;
  EXPECT_EQ(Directory(storage, folder.path()).steps(), (std::vector<std::int64_t>{100, 300}));
}

TEST(Checkpointer, DoesNotStartAnewSilentlyWhenAllCheckpointsAreCorrupt) {
  const ScratchFolder folder;
  for (const std::int64_t step : {1, 2}) {
    save(folder.path(), step);
  }
  folder.write("step-00000001/manifest.json", "{}");
  std::filesystem::remove(folder.path() / "step-00000002/manifest.json");
  const auto [reason, message] = refusal(options_for(folder.path()));
  EXPECT_EQ(reason, "CheckpointsCorrupt");
  EXPECT_NE(message.find("step-00000001/manifest.json is corrupt"), std::string::npos) << message;
  EXPECT_NE(message.find("step-00000002/manifest.json: No such file"), std::string::npos) << message;
  EXPECT_NE(message.find("to start anew, empty or change checkpoint.path"), std::string::npos) << message;
}

TEST(Checkpointer, RefusesTheCheckpointsOfAnotherTraining) {
  const ScratchFolder folder;
  save(folder.path(), 1);
  auto options = options_for(folder.path());
  options.identity = {{"model", {{"layers", 6}}}};
  const auto [reason, message] = refusal(options);
  EXPECT_EQ(reason, "CheckpointOfAnotherJob");
  EXPECT_NE(message.find("model.layers is 6 in this job and 4 in the checkpoint"), std::string::npos) << message;
}

TEST(Checkpointer, FindsOutThatRanksDoNotShareAFolder) {
  const ScratchFolder folder;
  PosixStorage storage;
  std::vector<std::string> messages(2);
  run_ranks(2, [&](mesh::Comm& comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    Checkpointer checkpointer(options_for(folder.path() / std::to_string(rank)), comm, storage);
    try {
      checkpointer.open();
    } catch (const UserError& error) {
      EXPECT_EQ(error.reason(), "CheckpointsNotShared");
      messages[rank] = error.what();
    }
  });
  EXPECT_EQ(messages[0], messages[1]);
  EXPECT_NE(messages[0].find("not shared among workers: rank 1 does not see"), std::string::npos) << messages[0];
}

TEST(Checkpointer, SaysThatItCannotWrite) {
  const ScratchFolder folder;
  const auto [reason, message] = refusal(options_for(folder.write("file", "") / "below"));
  EXPECT_EQ(reason, "CheckpointsNotWritable");
  EXPECT_NE(message.find("Not a directory"), std::string::npos) << message;
  EXPECT_NE(message.find("the pod's user, " + std::to_string(::geteuid()) + ", may write to"), std::string::npos) << message;
}

TEST(Checkpointer, FailsAsAWholeOnAFullDiskAndGoesOnWhenThereIsRoomAgain) {
  const ScratchFolder folder;
  save(folder.path(), 100, 2, Cut::kRows);
  FaultyStorage full;
  PosixStorage storage;
  const auto temporary = Directory(storage, folder.path()).temporary(200, "uid", 1);
  run_ranks(2, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path()), comm, storage);
    checkpointer.open();
    comm.barrier();
    Checkpointer failing(options_for(folder.path()), comm, comm.rank() == 1 ? static_cast<Storage&>(full) : storage);
    if (comm.rank() == 1) full.fill_after(100);
    failing.start(snapshot_of(200, Cut::kRows, comm));
    const auto failed = failing.finish();
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->failure, "write " + (temporary / "rank-00001.safetensors").string() + ": No space left on device");
    if (comm.rank() == 1) full.fill_after(1 << 20);
    comm.barrier();
    failing.start(snapshot_of(300, Cut::kRows, comm));
    EXPECT_EQ(failing.finish()->failure, "");
  });
  EXPECT_EQ(Directory(storage, folder.path()).steps(), (std::vector<std::int64_t>{100, 300}));
  EXPECT_FALSE(std::filesystem::exists(temporary));
  expect_loads(folder.path(), 300, 1);
}

TEST(Checkpointer, DoesNotCommitOnceALaterGenerationHasTakenTheFolder) {
  const ScratchFolder folder;
  PosixStorage storage;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer before(options_for(folder.path(), 1), comm, storage);
    before.open();
    Checkpointer after(options_for(folder.path(), 2), comm, storage);
    after.open();
    before.start(snapshot_of(100, Cut::kReplicated, comm));
    const auto saved = before.finish();
    EXPECT_NE(saved->failure.find("uid/2 has taken the folder since"), std::string::npos) << saved->failure;
    EXPECT_TRUE(Directory(storage, folder.path()).steps().empty());
  });
}

/// What is there when a gang has gone on from 100 to 200, was cut off while it made that durable, and its successor went on to 400.
/// `cut_off` tells the storage which call hangs meanwhile, and what happens.
std::vector<std::int64_t> steps_after(const ScratchFolder& folder,
                                      const std::function<void(FaultyStorage&, std::function<void()>)>& cut_off) {
  FaultyStorage hanging;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer before(options_for(folder.path(), 1), comm, hanging);
    before.open();
    before.load(blank(cut_training(1, Cut::kReplicated, 0, 1)));
    cut_off(hanging, [&] {
      resume_and_save(folder.path(), 300, 2);
      resume_and_save(folder.path(), 400, 2);
    });
    before.start(snapshot_of(200, Cut::kReplicated, comm));
    before.finish();
  });
  return Directory(hanging, folder.path()).steps();
}

TEST(Checkpointer, LeavesTheCheckpointsOfItsSuccessorWhereverItsStorageHung) {
  const std::vector<std::int64_t> successors{300, 400};
  const auto last_two = [](std::vector<std::int64_t> steps) {
    return std::vector<std::int64_t>(steps.end() - std::min<std::ptrdiff_t>(2, std::ssize(steps)), steps.end());
  };
  for (const bool corrupt : {false, true}) {  // 300, before it was made anew by the successor
    SCOPED_TRACE(corrupt ? "with a corrupt checkpoint" : "with right checkpoints only");
    const auto hang = [&](auto method) {
      const ScratchFolder folder;
      save(folder.path(), 100);
      if (corrupt) folder.write("step-00000300/manifest.json", "{}");
      return last_two(steps_after(
          folder, [&](FaultyStorage& storage, std::function<void()> meanwhile) { (storage.*method)(std::move(meanwhile)); }));
    };
    EXPECT_EQ(hang(&FaultyStorage::while_renaming), successors);
    EXPECT_EQ(hang(&FaultyStorage::while_listing), successors);
  }
}

TEST(Checkpointer, FailsTheSaveWhenTheRanksShardsMakeNoWhole) {
  const ScratchFolder folder;
  PosixStorage storage;
  run_ranks(2, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path()), comm, storage);
    checkpointer.open();
    auto snapshot = snapshot_of(1, Cut::kRows, comm);
    if (comm.rank() == 1) snapshot.shards.erase(snapshot.shards.begin());
    checkpointer.start(snapshot);
    EXPECT_NE(checkpointer.finish()->failure.find("model.embed_tokens.weight has 24 of 48 elements"), std::string::npos);
  });
}

}  // namespace
}  // namespace trainyard::checkpoint
