// Whatever byte of a checkpoint changes, loading notices.

#include <fstream>

#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/checkpoint/ranks.h"
#include "tests/worker/data/scratch_folder.h"

namespace trainyard::checkpoint {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& path) {
  PosixStorage storage;
  return read_text(storage, path, 1 << 20);
}

void write_bytes(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// Loads on one rank: the messages of what was skipped.
std::vector<std::string> skipped_by_load(const fs::path& path) {
  PosixStorage storage;
  std::vector<std::string> skipped;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(path), comm, storage);
    const auto expected = snapshot_of(100, Cut::kReplicated, comm);
    const auto shards = blank(expected.shards);
    const auto loaded = checkpointer.load(shards);
    skipped = loaded->skipped;
    if (!skipped.empty()) {
      EXPECT_TRUE(equal(shards, expected.shards)) << "went back, but not to the older content";
    }
  });
  return skipped;
}

TEST(Corruption, OfAnyByteOfAnyFileIsNoticed) {
  const ScratchFolder folder;
  save(folder.path(), 100, 2, Cut::kRows);
  save(folder.path(), 200, 2, Cut::kRows);
  ASSERT_TRUE(skipped_by_load(folder.path()).empty());
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder.path() / "step-00000200")) {
    ++files;
    const auto bytes = bytes_of(entry.path());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      auto other = bytes;
      other[i] = static_cast<char>(other[i] ^ (1 << i % 8));
      write_bytes(entry.path(), other);
      const auto skipped = skipped_by_load(folder.path());
      ASSERT_EQ(skipped.size(), 1u) << "byte " << i << " of " << entry.path();
      ASSERT_NE(skipped[0].find("step-00000200"), std::string::npos) << skipped[0];
    }
    write_bytes(entry.path(), bytes);
  }
  EXPECT_EQ(files, 3);  // two ranks' tensors and the manifest
  EXPECT_TRUE(skipped_by_load(folder.path()).empty());
}

TEST(Corruption, ByAnEndThatIsMissingOrAFileThatIsMissingIsNoticed) {
  const ScratchFolder folder;
  save(folder.path(), 100, 2, Cut::kRows);
  save(folder.path(), 200, 2, Cut::kRows);
  for (const auto& entry : fs::directory_iterator(folder.path() / "step-00000200")) {
    const auto bytes = bytes_of(entry.path());
    for (std::size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 20) {
      write_bytes(entry.path(), bytes.substr(0, size));
      ASSERT_EQ(skipped_by_load(folder.path()).size(), 1u) << entry.path() << " cut to " << size;
    }
    write_bytes(entry.path(), bytes + "x");
    ASSERT_EQ(skipped_by_load(folder.path()).size(), 1u) << entry.path() << " lengthened";
    fs::remove(entry.path());
    ASSERT_EQ(skipped_by_load(folder.path()).size(), 1u) << entry.path() << " removed";
    write_bytes(entry.path(), bytes);
  }
}

TEST(Corruption, ByTheTensorsOfAnotherCheckpointIsNoticed) {
  const ScratchFolder folder;
  save(folder.path(), 100);
  save(folder.path(), 200);
  fs::copy_file(folder.path() / "step-00000100/rank-00000.safetensors", folder.path() / "step-00000200/rank-00000.safetensors",
                fs::copy_options::overwrite_existing);
  EXPECT_EQ(skipped_by_load(folder.path()).size(), 1u);
}

TEST(Corruption, ByAFolderThatBearsTheNameOfAnotherStepIsNoticed) {
  const ScratchFolder folder;
  save(folder.path(), 100);
  fs::copy(folder.path() / "step-00000100", folder.path() / "step-00000300");
  const auto skipped = skipped_by_load(folder.path());
  ASSERT_EQ(skipped.size(), 1u);
  EXPECT_NE(skipped[0].find("it is of step 100"), std::string::npos) << skipped[0];
}

/// What each of two ranks is told when it loads.
std::vector<std::string> refusals(const fs::path& path) {
  PosixStorage storage;
  std::vector<std::string> messages(2);
  run_ranks(2, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(path), comm, storage);
    checkpointer.open();
    try {
      checkpointer.load(blank(cut_training(100, Cut::kRows, comm.rank(), comm.size())));
    } catch (const contract::UserError& error) {
      messages[static_cast<std::size_t>(comm.rank())] = error.reason() + ": " + error.what();
    }
  });
  return messages;
}

/// A rank that reads none of the damage must not start either; and what could be mended stays.
TEST(Corruption, OfAShardOfTheOnlyCheckpointIsRefusedOnEveryRankAndNothingIsRemoved) {
  const ScratchFolder folder;
  save(folder.path(), 100, 2, Cut::kRows);
  const auto file = folder.path() / "step-00000100/rank-00001.safetensors";
  const auto bytes = bytes_of(file);
  auto altered = bytes;
  altered.back() = static_cast<char>(altered.back() ^ 1);
  for (const auto& damaged : {std::string(), bytes.substr(0, bytes.size() - 1), altered}) {
    SCOPED_TRACE(damaged.empty() ? "missing" : damaged.size() < bytes.size() ? "truncated" : "altered");
    if (damaged.empty()) {
      fs::remove(file);
    } else {
      write_bytes(file, damaged);
    }
    const auto messages = refusals(folder.path());
    EXPECT_EQ(messages[0], messages[1]);
    EXPECT_NE(messages[0].find("CheckpointsCorrupt: spec.checkpoint.path: none of the checkpoints"), std::string::npos)
        << messages[0];
    EXPECT_NE(messages[0].find("step-00000100"), std::string::npos) << messages[0];
    EXPECT_TRUE(fs::exists(folder.path() / "step-00000100/rank-00000.safetensors"));
    EXPECT_TRUE(fs::exists(folder.path() / "step-00000100/manifest.json"));
  }
  write_bytes(file, bytes);
  expect_loads(folder.path(), 100, 2, Cut::kRows);
}

}  // namespace
}  // namespace trainyard::checkpoint
