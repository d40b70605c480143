// A save whose storage is slower than the training, or fails, while what has to be copied does not fit into the memory for that.
#include <atomic>
#include <future>
#include <latch>

#include <gtest/gtest.h>

#include "tests/worker/checkpoint/faulty_storage.h"
#include "tests/worker/checkpoint/ranks.h"
#include "tests/worker/data/scratch_folder.h"

namespace trainyard::checkpoint {
namespace {

using std::chrono::milliseconds;

Options with_memory(const std::filesystem::path& path, std::int64_t bytes) {
  auto options = options_for(path);
  options.staging_bytes = bytes;
  options.round = milliseconds(20);
  return options;
}

TEST(SlowStorage, HoldsNothingUpWhereAllFitsIntoTheMemory) {
  const ScratchFolder folder;
  FaultyStorage storage;
  std::latch goes_on(1);
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(with_memory(folder.path(), plan::kStagingBytes), comm, storage);
    checkpointer.open();
    storage.before_writing([&] { goes_on.wait(); });
    checkpointer.start(snapshot_of(100, Cut::kReplicated, comm));
    EXPECT_FALSE(checkpointer.poll());  // steps are done meanwhile
    EXPECT_TRUE(checkpointer.saving());
    goes_on.count_down();
    EXPECT_EQ(checkpointer.finish()->failure, "");
  });
  expect_loads(folder.path(), 100);
}

TEST(SlowStorage, HoldsTheTrainingUpForWhatDoesNotFitAndTellsForHowLong) {
  const ScratchFolder folder;
  FaultyStorage storage;
  std::atomic<bool> is_writing = false, goes_on = false;
  run_ranks(2, [&](mesh::Comm& comm) {
    PosixStorage disk;
    const bool is_slow = comm.rank() == 1;
    Checkpointer checkpointer(with_memory(folder.path(), kLittleMemory), comm, is_slow ? static_cast<Storage&>(storage) : disk);
    checkpointer.open();
    comm.barrier();
    if (is_slow) {
      storage.before_writing([&] {
        if (is_writing.exchange(true)) return;
        std::this_thread::sleep_for(milliseconds(60));  // three rounds of the ranks
        EXPECT_FALSE(goes_on) << "a tensor may have changed before it was copied";
      });
    }
    const auto snapshot = snapshot_of(100, Cut::kRows, comm);
    checkpointer.start(snapshot);
    goes_on = true;
    for (const auto& shard : snapshot.shards) shard.local.zero_();
    const auto saved = checkpointer.finish();
    EXPECT_EQ(saved->failure, "");
    if (is_slow) {  // whose disk slept after this call had begun, and before it could end
      EXPECT_GE(saved->blocked_seconds, 0.06);
    }
  });
  EXPECT_TRUE(is_writing);
  expect_loads(folder.path(), 100, 2, Cut::kRows);
}

TEST(SlowStorage, GivesTheSameFilesHoweverLittleMemoryThereIs) {
  std::vector<std::string> files;
  for (const std::int64_t bytes : {plan::kStagingBytes, std::int64_t{1000}, std::int64_t{333}, kLittleMemory}) {
    SCOPED_TRACE(bytes);
    const ScratchFolder folder;
    PosixStorage disk;
    for (const std::int64_t step : {1, 2, 3}) {
      run_ranks(2, [&](mesh::Comm& comm) {
        Checkpointer checkpointer(with_memory(folder.path(), bytes), comm, disk);
        checkpointer.open();
        checkpointer.start(snapshot_of(step, Cut::kGrid, comm));
        EXPECT_EQ(checkpointer.finish()->failure, "");
      });
    }
    EXPECT_EQ(Directory(disk, folder.path()).steps(), (std::vector<std::int64_t>{2, 3}));
    std::string all;
    for (const char* name : {"rank-00000.safetensors", "rank-00001.safetensors", "manifest.json"}) {
      all += read_text(disk, folder.path() / "step-00000003" / name, 1 << 20);
    }
    files.push_back(all);
    EXPECT_EQ(all, files.front());
  }
}

/// Full, or out of order, after so many bytes: in the header, in a tensor, in the fragment.
TEST(SlowStorage, ThatFailsAnywhereFailsTheSaveInWordsAndHangsNobody) {
  for (const int error : {ENOSPC, EIO}) {
    bool has_failed = true;
    int failures = 0;
    for (std::int64_t room = 0; has_failed; room += 97) {
      SCOPED_TRACE(room);
      const ScratchFolder folder;
      FaultyStorage failing;
      run_ranks(2, [&](mesh::Comm& comm) {
        PosixStorage disk;
        const bool fails = comm.rank() == 1;
        Checkpointer checkpointer(with_memory(folder.path(), kLittleMemory), comm, fails ? static_cast<Storage&>(failing) : disk);
        checkpointer.open();
        comm.barrier();
        if (fails) failing.fill_after(room, error);
        checkpointer.start(snapshot_of(1, Cut::kRows, comm));
        const auto saved = checkpointer.finish();
        comm.barrier();
        if (fails) has_failed = !saved->failure.empty();
        comm.barrier();
        if (!has_failed) return;
        if (fails) ++failures;
        EXPECT_EQ(saved->trouble, error == ENOSPC ? Trouble::kRefused : Trouble::kPassing);
        const std::string words = error == ENOSPC ? "No space left on device" : "Input/output error";
        EXPECT_NE(saved->failure.find("/rank-00001."), std::string::npos) << saved->failure;
        EXPECT_TRUE(saved->failure.ends_with(words)) << saved->failure;
        EXPECT_TRUE(Directory(disk, folder.path()).steps().empty());
        // When there is room again, training still has what the next save needs.
        if (fails) failing.fill_after(1 << 20);
        comm.barrier();
        checkpointer.start(snapshot_of(2, Cut::kRows, comm));
        EXPECT_EQ(checkpointer.finish()->failure, "");
      });
      if (has_failed) expect_loads(folder.path(), 2, 2, Cut::kRows);
    }
    EXPECT_GT(failures, 5);
  }
}

TEST(SlowStorage, KeepsNobodyWhoHasLostAPeerMeanwhile) {
  const ScratchFolder folder;
  FaultyStorage storage;
  mesh::LocalWorld world;
  auto comms = world.make_group(2);
  std::latch is_writing(1), is_lost(1);
  std::vector<std::jthread> threads;
  for (auto& comm : comms) {
    threads.emplace_back([&] {
      try {
        Checkpointer checkpointer(with_memory(folder.path(), kLittleMemory), *comm, storage);
        checkpointer.open();
        comm->barrier();
        if (comm->rank() == 0) {
          is_writing.wait();
          world.lose("rank 0 ended");
          is_lost.count_down();
          return;
        }
        storage.before_writing([&, first = true]() mutable {
          if (!std::exchange(first, false)) return;
          is_writing.count_down();
          is_lost.wait();
        });
        EXPECT_THROW(checkpointer.start(snapshot_of(1, Cut::kRows, *comm)), mesh::PeerLost);
      } catch (const std::exception& error) {
        ADD_FAILURE() << error.what();
      }
    });
  }
}

TEST(SlowStorage, EndsASaveWhoseCopyFails) {
  const ScratchFolder folder;
  PosixStorage disk;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(with_memory(folder.path(), kLittleMemory), comm, disk);
    checkpointer.open();
    auto snapshot = snapshot_of(1, Cut::kReplicated, comm);
    snapshot.shards[2].local = at::empty({4, 3, 5}, at::TensorOptions().dtype(at::kBFloat16).device(at::kMeta));
    EXPECT_THROW(checkpointer.start(snapshot), std::exception);
    const auto saved = checkpointer.finish();
    ASSERT_TRUE(saved);
    EXPECT_NE(saved->failure, "");
    EXPECT_TRUE(Directory(disk, folder.path()).steps().empty());
    checkpointer.start(snapshot_of(2, Cut::kReplicated, comm));
    EXPECT_EQ(checkpointer.finish()->failure, "");
  });
}

}  // namespace
}  // namespace trainyard::checkpoint
