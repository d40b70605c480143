#include "worker/data/source_file.h"

#include <array>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/data/mappings.h"
#include "tests/worker/data/scratch_folder.h"

namespace trainyard::data {
namespace {

constexpr auto kEachAccess = {Access::kReopened, Access::kOpen, Access::kMapped};

TEST(SourceFile, ReadsTheSameHoweverItIsHeld) {
  const ScratchFolder folder;
  const auto path = folder.write("a", "0123456789");
  for (const auto access : kEachAccess) {
    const SourceFile file(path, access);
    EXPECT_EQ(file.num_bytes(), 10);
    EXPECT_EQ(mappings_of(path), access == Access::kMapped ? 1 : 0);
    std::array<unsigned char, 3> bytes{};
    EXPECT_TRUE(file.read(7, bytes));
    EXPECT_EQ(bytes, (std::array<unsigned char, 3>{'7', '8', '9'}));
    EXPECT_FALSE(file.read(8, bytes));
  }
}

TEST(SourceFile, IsMappedAndGivesItsMappingsBytes) {
  const ScratchFolder folder;
  const auto path = folder.write("a", "old");
  const SourceFile file(path, Access::kMapped);
  std::filesystem::rename(folder.write("b", "new"), path);  // another file of the same name: the mapping is of the first one
  std::array<unsigned char, 3> bytes{};
  EXPECT_TRUE(file.read(0, bytes));
  EXPECT_EQ(bytes, (std::array<unsigned char, 3>{'o', 'l', 'd'}));
}

TEST(SourceFile, TellsThatItHasBecomeShorter) {
  const ScratchFolder folder;
  constexpr std::size_t kPage = 65536;  // of every machine a page or several
  for (const auto access : kEachAccess) {
    for (const std::size_t left : {std::size_t{0}, std::size_t{1}, kPage, kPage + 1, 3 * kPage - 1}) {
      const auto path = folder.write("a", std::string(3 * kPage, 'x'));
      const SourceFile file(path, access);
      std::filesystem::resize_file(path, left);
      // Of a mapping, its last page has zeros where the file has ended, and those behind have nothing.
      std::vector<unsigned char> end(10);
      EXPECT_FALSE(file.read(3 * kPage - 10, end)) << left;
    }
  }
}

TEST(SourceFile, ThrowsWhereAMappedFileIsGone) {
  const ScratchFolder folder;
  const auto path = folder.write("a", "0123456789");
  const SourceFile file(path, Access::kMapped);
  std::filesystem::remove(path);
  std::array<unsigned char, 1> byte{};
  EXPECT_THROW(file.read(0, byte), std::system_error);
}

TEST(SourceFile, UnmapsAtItsEnd) {
  const ScratchFolder folder;
  const auto path = folder.write("a", "0123456789");
  {
    SourceFile file(path, Access::kMapped);
    const SourceFile moved(std::move(file));
    EXPECT_EQ(mappings_of(path), 1);
  }
  EXPECT_EQ(mappings_of(path), 0);
}

TEST(SourceFile, ReadsWhatCannotBeMapped) {
  const SourceFile file("/sys/devices/system/cpu/online",
                        Access::kMapped);  // a file of sysfs has a size, and no mapping
  EXPECT_GT(file.num_bytes(), 0);
  EXPECT_EQ(mappings_of(file.path()), 0);
  std::array<unsigned char, 1> byte{};
  EXPECT_TRUE(file.read(0, byte));
  EXPECT_NE(byte[0], 0);
}

TEST(SourceFile, ThrowsAnErrorOfTheDiskAndNamesTheFile) {
  // No process has anything at address 0 of its memory: this file can be opened, and reading there is an I/O error. It has no size, so it is not mapped.
  for (const auto access : kEachAccess) {
    const SourceFile file("/proc/self/mem", access);
    std::array<unsigned char, 1> byte{};
    try {
      file.read(0, byte);
      ADD_FAILURE() << "read";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::io_error);
      EXPECT_STREQ(error.what(), "read /proc/self/mem: Input/output error");
    }
  }
}

}  // namespace
}  // namespace trainyard::data
