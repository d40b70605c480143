#include "worker/trainer/saves.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "tests/worker/checkpoint/faulty_storage.h"
#include "tests/worker/checkpoint/ranks.h"
#include "tests/worker/data/scratch_folder.h"
#include "tests/worker/trainer/reports.h"

namespace trainyard::trainer {
namespace {

constexpr std::chrono::milliseconds kHangs{20};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The save of step 1 is committed while a wish to stop starts that of step 2, which it waits for too.
TEST(Saves, TellTheSecondsOfBothSavesThatEndInOneCallAndNoneTwice) {
  const ScratchFolder folder;
  const ReportFile reports;
  checkpoint::FaultyStorage storage;
  contract::TrainingJobSpec spec;
  spec.checkpoint = contract::Checkpoint{.path = folder.path().string(), .everySteps = {}, .keep = 3};
  checkpoint::run_ranks(1, [&](mesh::Comm& comm) {
    report::Reporter reporter(reports.descriptor(), true);
    checkpoint::Checkpointer checkpointer(checkpoint::options_for(folder.path()), comm, storage);
    checkpointer.open();
    Saves saves(spec, &checkpointer, reporter, true, [](std::chrono::seconds) {});
    EXPECT_FALSE(saves.take_blocked_seconds());
    storage.while_renaming([] { std::this_thread::sleep_for(kHangs); });
    const auto began = std::chrono::steady_clock::now();
    checkpointer.start(checkpoint::snapshot_of(1, checkpoint::Cut::kReplicated, comm));
    const auto take = [&] { return checkpoint::snapshot_of(2, checkpoint::Cut::kReplicated, comm); };
    EXPECT_TRUE(saves.after_step(2, {.request = 0, .stop = 1}, take));
    const double passed = seconds_since(began);
    const auto blocked = saves.take_blocked_seconds();
    ASSERT_TRUE(blocked);
    EXPECT_GE(*blocked, std::chrono::duration<double>(kHangs).count()) << "the first one's, which was waited for";
    EXPECT_LE(*blocked, passed) << "no wait counts for both";
    EXPECT_FALSE(saves.take_blocked_seconds()) << "told once";
  });
  EXPECT_EQ(reports.of(contract::ReportKind::kCheckpoint).size(), 2U);
}

}  // namespace
}  // namespace trainyard::trainer
