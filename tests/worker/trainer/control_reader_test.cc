#include "worker/trainer/control_reader.h"

#include <unistd.h>

#include <array>
#include <future>
#include <string>

#include <gtest/gtest.h>

namespace trainyard::trainer {
namespace {

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe(ends_.data()), 0); }
  ~Pipe() {
    end();
    close(ends_[0]);
  }
  int reader() const { return ends_[0]; }
  void write(const std::string& text) const {
    EXPECT_EQ(::write(ends_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void end() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  std::array<int, 2> ends_{};
};

TEST(LineReader, GivesLinesAsTheyCome) {
  Pipe pipe;
  LineReader lines(pipe.reader());
  pipe.write("one\ntwo\nthr");
  EXPECT_EQ(lines.next(), "one");
  EXPECT_EQ(lines.next(), "two");
  pipe.write("ee\n");
  EXPECT_EQ(lines.next(), "three");
}

TEST(LineReader, LeavesOutALastLineWithoutAnEnd) {
  Pipe pipe;
  LineReader lines(pipe.reader());
  pipe.write("one\nhalf a l");
  pipe.end();
  EXPECT_EQ(lines.next(), "one");
  EXPECT_EQ(lines.next(), std::nullopt);
}

TEST(LineReader, GivesALineThatIsLongerThanItsBuffer) {
  Pipe pipe;
  LineReader lines(pipe.reader());
  const std::string line(20'000, 'x');
  pipe.write(line + "\n");
  EXPECT_EQ(lines.next(), line);
}

/// Writes the lines, ends the input, and waits until the reader has read all.
contract::RankControl heard(const std::string& text) {
  Pipe pipe;
  std::promise<void> gone;
  ControlReader reader(LineReader(pipe.reader()), [&] { gone.set_value(); });
  EXPECT_EQ(reader.latest(), contract::RankControl{});
  pipe.write(text);
  pipe.end();
  gone.get_future().wait();
  return reader.latest();
}

TEST(ControlReader, KnowsTheLatestWordAndSaysWhenTheAgentIsGone) {
  EXPECT_EQ(heard("{\"checkpointRequest\":1}\n{\"checkpointRequest\":3,\"stopAfter\":3}\n"),
            (contract::RankControl{.checkpointRequest = 3, .stopAfter = 3}));
}

TEST(ControlReader, NeverTakesAWordBack) {
  EXPECT_EQ(heard("{\"checkpointRequest\":3,\"stopAfter\":3}\n{\"checkpointRequest\":2}\n"),
            (contract::RankControl{.checkpointRequest = 3, .stopAfter = 3}));
}

TEST(ControlReader, LeavesOutWhatIsNoControl) {
  EXPECT_EQ(heard("nonsense\n[]\n{\"checkpointRequest\":\"x\"}\n{\"checkpointRequest\":2}\n"),
            (contract::RankControl{.checkpointRequest = 2, .stopAfter = {}}));
}

}  // namespace
}  // namespace trainyard::trainer
