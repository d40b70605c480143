// Storage that fails for the moment, refuses, or is slow: what becomes of the checkpoints on it.
#include "worker/checkpoint/trouble.h"

#include <cerrno>
#include <chrono>
#include <new>
#include <stdexcept>
#include <thread>
#include <utility>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/checkpoint/faulty_storage.h"
#include "tests/worker/checkpoint/ranks.h"
#include "tests/worker/data/scratch_folder.h"

namespace trainyard::checkpoint {
namespace {

TEST(Problem, TellsWhatIsCorruptFromWhatTheUserHasToMendAndFromWhatPasses) {
  const auto trouble_of = [](int error) { return problem_of(StorageError("read", "/c", error)).trouble; };
  for (const int error : {ENOENT, ENODATA, EISDIR}) EXPECT_EQ(trouble_of(error), Trouble::kCorrupt) << error;
  for (const int error : {EACCES, EROFS, ENOSPC}) EXPECT_EQ(trouble_of(error), Trouble::kRefused) << error;
  for (const int error : {EIO, ESTALE, ETIMEDOUT, EMFILE}) EXPECT_EQ(trouble_of(error), Trouble::kPassing) << error;
  EXPECT_EQ(problem_of(CorruptFile("x is corrupt")).trouble, Trouble::kCorrupt);
  EXPECT_EQ(problem_of(std::bad_alloc()).trouble, Trouble::kPassing);
  EXPECT_EQ(problem_of(contract::UserError("Newer", "use a newer image")).trouble, Trouble::kRefused);
  EXPECT_EQ(problem_of(std::runtime_error("what nobody foresaw")).trouble, Trouble::kPassing);
}

TEST(Problem, OfLibTorchIsTheMachinesAndIsToldWithoutTheCallsThatLedToIt) {
  const auto problem = problem_in([] { TORCH_CHECK(false, "can't allocate memory: you tried to allocate 8 bytes"); });
  EXPECT_EQ(problem.trouble, Trouble::kPassing);
  EXPECT_NE(problem.text.find("can't allocate memory"), std::string::npos);
  EXPECT_EQ(problem.text.find("frame #0"), std::string::npos) << problem.text;
}

TEST(Checkpointer, DoesNotSkipACheckpointThatCannotBeReadForTheMoment) {
  const ScratchFolder folder;
  save(folder.path(), 100, 2, Cut::kRows);
  save(folder.path(), 200, 2, Cut::kRows);
  for (const int error : {EIO, ESTALE, EMFILE}) {
    FaultyStorage failing;
    failing.fail_to_open("step-00000200/rank-00001.safetensors", error);
    try {
      run_ranks(2, [&](mesh::Comm& comm) {
        Checkpointer checkpointer(options_for(folder.path()), comm, failing);
        checkpointer.open();
        checkpointer.load(blank(cut_training(1, Cut::kRows, comm.rank(), 2)));
      });
      ADD_FAILURE() << "loaded";
    } catch (const StorageUnavailable& unavailable) {
      EXPECT_NE(std::string(unavailable.what()).find("step-00000200/rank-00001.safetensors"), std::string::npos);
    }
  }
  PosixStorage storage;
  EXPECT_EQ(Directory(storage, folder.path()).steps(), (std::vector<std::int64_t>{100, 200}));
}

TEST(Checkpointer, DoesNotSkipACheckpointForWhichMemoryIsTooShort) {
  const ScratchFolder folder;
  save(folder.path(), 100);
  save(folder.path(), 200);
  FaultyStorage failing;
  failing.fail_to_open("step-00000200/rank-00000.safetensors", [] { TORCH_CHECK(false, "can't allocate memory"); });
  EXPECT_THROW(
      run_ranks(1,
                [&](mesh::Comm& comm) {
                  Checkpointer(options_for(folder.path()), comm, failing).load(blank(cut_training(1, Cut::kReplicated, 0, 1)));
                }),
      StorageUnavailable);
}

TEST(Checkpointer, LeavesACheckpointThatItsUserMayNotReadToTheUser) {
  const ScratchFolder folder;
  save(folder.path(), 100);
  save(folder.path(), 200);
  FaultyStorage failing;
  failing.fail_to_open("step-00000200/manifest.json", EACCES);
  try {
    run_ranks(1, [&](mesh::Comm& comm) {
      Checkpointer(options_for(folder.path()), comm, failing).load(blank(cut_training(1, Cut::kReplicated, 0, 1)));
    });
    ADD_FAILURE() << "loaded";
  } catch (const contract::UserError& error) {
    EXPECT_EQ(error.reason(), "CheckpointsUnreadable");
  }
}

TEST(Checkpointer, TakesAFolderWhoseLeftoversItCannotRemove) {
  const ScratchFolder folder;
  PosixStorage disk;
  disk.make_directories(Directory(disk, folder.path()).temporary(7, "uid", 1));
  FaultyStorage failing;
  failing.fail_to_remove(".tmp", EBUSY);
  run_ranks(2, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path(), 2), comm, failing);
    const auto warning = checkpointer.open();
    EXPECT_NE(warning.find("Device or resource busy"), std::string::npos) << warning;
  });
}

TEST(Checkpointer, IsDurableThoughWhatItReplacesAndWhatIsTooOldCannotBeRemoved) {
  const ScratchFolder folder;
  for (const std::int64_t step : {100, 150, 200}) save(folder.path(), step);
  folder.write("step-00000050/manifest.json", "too old");
  folder.write("step-00000200/manifest.json", "corrupt");
  FaultyStorage failing;
  failing.fail_to_remove(".step-00000200.replaced", EBUSY);
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(folder.path()), comm, failing);
    checkpointer.open();
    checkpointer.load(blank(cut_training(1, Cut::kReplicated, 0, 1)));
    checkpointer.start(snapshot_of(200, Cut::kReplicated, comm));
    const auto saved = checkpointer.finish();
    EXPECT_EQ(saved->failure, "");
    EXPECT_NE(saved->warning.find("Device or resource busy"), std::string::npos) << saved->warning;
  });
  EXPECT_EQ(Directory(failing, folder.path()).steps(), (std::vector<std::int64_t>{150, 200}));
}

TEST(Checkpointer, TellsOfWhichKindAFailureToSaveIs) {
  const ScratchFolder folder;
  FaultyStorage failing;
  run_ranks(2, [&](mesh::Comm& comm) {
    PosixStorage disk;
    Checkpointer checkpointer(options_for(folder.path()), comm, comm.rank() == 1 ? static_cast<Storage&>(failing) : disk);
    checkpointer.open();
    for (const auto& [error, trouble] : {std::pair{EIO, Trouble::kPassing}, {ENOSPC, Trouble::kRefused}}) {
      if (comm.rank() == 1) failing.fail_to_create(1, error);
      checkpointer.start(snapshot_of(1, Cut::kRows, comm));
      EXPECT_EQ(checkpointer.finish()->trouble, trouble);
    }
    checkpointer.start(snapshot_of(1, Cut::kRows, comm));  // the same step again
    EXPECT_EQ(checkpointer.finish()->trouble, Trouble::kNone);
    EXPECT_TRUE(checkpointer.load(blank(cut_training(1, Cut::kRows, comm.rank(), 2))));
  });
}

TEST(Checkpointer, MayWaitForASlowDiskLongerThanAnyCallWaits) {
  using std::chrono::milliseconds;
  for (const std::int64_t staging_bytes : {plan::kStagingBytes, kLittleMemory}) {  // it waits in finish(), and in start()
    const ScratchFolder folder;
    FaultyStorage slow;
    mesh::LocalWorld world({.timeout = milliseconds(2000)});
    auto comms = world.make_group(2);
    auto options = options_for(folder.path());
    options.round = milliseconds(50);
    options.staging_bytes = staging_bytes;
    std::vector<std::jthread> threads;
    threads.reserve(comms.size());
    for (auto& comm : comms) {
      threads.emplace_back([&] {
        try {
          PosixStorage disk;
          const bool is_slow = comm->rank() == 1;
          Checkpointer checkpointer(options, *comm, is_slow ? static_cast<Storage&>(slow) : disk);
          checkpointer.open();
          if (is_slow) slow.delay(milliseconds(3000));
          checkpointer.start(snapshot_of(1, Cut::kRows, *comm));
          EXPECT_EQ(checkpointer.finish()->failure, "");
          EXPECT_TRUE(checkpointer.load(blank(cut_training(1, Cut::kRows, comm->rank(), 2))));
        } catch (const std::exception& error) {
          ADD_FAILURE() << error.what();
        }
      });
    }
  }
}

}  // namespace
}  // namespace trainyard::checkpoint
