// Machines that stop: what is on the disk afterwards.

#include <gtest/gtest.h>

#include "tests/worker/checkpoint/faulty_storage.h"
#include "tests/worker/checkpoint/ranks.h"
#include "tests/worker/data/scratch_folder.h"

namespace trainyard::checkpoint {
namespace {

/// Saves on a machine that stops before its operation of that number on storage, where it comes to that many. True: the save was told
/// as durable.
bool save_until_it_stops(FaultyStorage& machine, std::int64_t operation, const std::filesystem::path& folder, std::int64_t step,
                         std::int64_t staging_bytes) {
  bool durable = false;
  try {
    run_ranks(1, [&](mesh::Comm& comm) {
      auto options = options_for(folder);
      options.staging_bytes = staging_bytes;
      Checkpointer checkpointer(options, comm, machine);
      machine.stop_at(operation);
      checkpointer.open();
      checkpointer.start(snapshot_of(step, Cut::kReplicated, comm));
      durable = checkpointer.finish()->failure.empty();
    });
  } catch (const StorageUnavailable&) {  // it stopped in open()
  }
  return durable;
}

class Stops : public testing::TestWithParam<std::int64_t> {};  // in bytes of memory to copy through
INSTANTIATE_TEST_SUITE_P(Checkpointer, Stops, testing::Values(plan::kStagingBytes, kLittleMemory));

TEST_P(Stops, LeaveTheOlderCheckpointUsableWhereverTheMachineDoes) {
  bool stopped = true;
  std::int64_t operation = 0;
  int newer = 0;
  for (; stopped; ++operation) {
    SCOPED_TRACE("stopped before operation " + std::to_string(operation));
    const ScratchFolder folder;
    for (const std::int64_t step : {100, 150}) save(folder.path(), step);
    FaultyStorage machine;
    const bool durable = save_until_it_stops(machine, operation, folder.path(), 200, GetParam());
    stopped = machine.stopped();
    machine.stop();  // at the latest: what is told as durable is so
    PosixStorage storage;
    const auto steps = Directory(storage, folder.path()).steps();
    ASSERT_GE(steps.size(), 2u);
    if (durable) {
      EXPECT_EQ(steps.back(), 200);
    }
    newer += steps.back() == 200;
    EXPECT_TRUE(expect_loads(folder.path(), steps.back()).skipped.empty());
    for (const auto step : steps) {
      EXPECT_TRUE(storage.exists(Directory(storage, folder.path()).of_step(step) / kManifestName)) << step << " has holes";
    }
    for (const auto& name : storage.list(folder.path())) EXPECT_TRUE(!name.starts_with(".step")) << name;
  }
  EXPECT_GT(operation, 20);     // there were many places to stop at
  EXPECT_GT(newer, 2);          // some behind the point where the new one counts
  EXPECT_LT(newer, operation);  // and some before
}

TEST(Checkpointer, MakesItsFolderDurableWithThoseAboveIt) {
  const ScratchFolder folder;
  const auto path = folder.path() / "of" / "a" / "job";
  FaultyStorage machine;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(path), comm, machine);
    checkpointer.open();
    checkpointer.start(snapshot_of(100, Cut::kReplicated, comm));
    EXPECT_EQ(checkpointer.finish()->failure, "");
  });
  machine.stop();
  expect_loads(path, 100);
}

TEST(Checkpointer, ReplacingACorruptCheckpointLosesNoOtherWhereverTheMachineStops) {
  bool stopped = true;
  for (std::int64_t operation = 0; stopped; ++operation) {
    SCOPED_TRACE("stopped before operation " + std::to_string(operation));
    const ScratchFolder folder;
    for (const std::int64_t step : {100, 200}) save(folder.path(), step);
    std::filesystem::remove(folder.path() / "step-00000200/manifest.json");
    FaultyStorage machine;
    save_until_it_stops(machine, operation, folder.path(), 200, plan::kStagingBytes);
    stopped = machine.stopped();
    const bool complete = std::filesystem::exists(folder.path() / "step-00000200/manifest.json");
    expect_loads(folder.path(), complete ? 200 : 100);
  }
}

}  // namespace
}  // namespace trainyard::checkpoint
