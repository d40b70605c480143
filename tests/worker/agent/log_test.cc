#include "worker/agent/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include <gtest/gtest.h>

namespace trainyard::agent {
namespace {

class LineWriterTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe(ends.data()), 0); }
  void TearDown() override {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  /// All that is in the pipe.
  std::string read() {
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    std::string out;
    std::array<char, 65'536> bytes;
    for (ssize_t got = 0; (got = ::read(ends[0], bytes.data(), bytes.size())) > 0;)
      out.append(bytes.data(), static_cast<std::size_t>(got));
    return out;
  }
  std::array<int, 2> ends{};
};

TEST_F(LineWriterTest, WritesLinesThatAreLongerThanAPipeTakesAtOnce) {
  LineWriter writer(ends[1]);
  writer.write(std::string(20'000, 'x'));
  writer.write("short");
  EXPECT_EQ(read(), std::string(20'000, 'x') + "\nshort\n");
}

TEST_F(LineWriterTest, EndsALineWhoseRestNobodyRead) {
  LineWriter writer(ends[1]);
  writer.write(std::string(100'000, 'x'));
  EXPECT_EQ(read(), std::string(65'536, 'x'));
  writer.write("again");
  EXPECT_EQ(read(), "\n{\"level\":\"warning\",\"linesDropped\":1,\"message\":\"nobody read this log\"}\nagain\n");
}

TEST_F(LineWriterTest, DropsLinesThatNobodyReadsAndSaysHowMany) {
  LineWriter writer(ends[1]);
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 10'000; ++i) writer.write(std::string(100, 'x'));  // a megabyte; the pipe holds 64 KiB
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20)) << "it waited for each";
  const std::string kept = read();
  EXPECT_LE(kept.size(), 65'536u);
  writer.write("again");
  const std::string after = read();
  const auto lines_kept = kept.size() / 101;
  EXPECT_EQ(after, "{\"level\":\"warning\",\"linesDropped\":" + std::to_string(10'000 - lines_kept) +
                       ",\"message\":\"nobody read this log\"}\nagain\n");
}

}  // namespace
}  // namespace trainyard::agent
