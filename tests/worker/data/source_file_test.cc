#include "worker/data/source_file.h"

#include <array>
#include <system_error>

#include <gtest/gtest.h>

#include "tests/worker/data/scratch_folder.h"

namespace trainyard::data {
namespace {

TEST(SourceFile, ReadsTheSameWhetherItStaysOpenOrNot) {
  const ScratchFolder folder;
  const auto path = folder.write("a", "0123456789");
  for (const bool stays_open : {true, false}) {
    const SourceFile file(path, stays_open);
    EXPECT_EQ(file.num_bytes(), 10);
    std::array<unsigned char, 3> bytes{};
    EXPECT_TRUE(file.read(7, bytes));
    EXPECT_EQ(bytes, (std::array<unsigned char, 3>{'7', '8', '9'}));
    EXPECT_FALSE(file.read(8, bytes));
  }
}

TEST(SourceFile, ThrowsAnErrorOfTheDiskAndNamesTheFile) {
  // No process has anything at address 0 of its memory: this file can be opened, and reading there is an I/O error.
  for (const bool stays_open : {true, false}) {
    const SourceFile file("/proc/self/mem", stays_open);
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
