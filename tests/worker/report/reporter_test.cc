#include "worker/report/reporter.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "worker/report/text.h"

namespace trainyard::report {
namespace {

using contract::Json;
using contract::Report;
using contract::ReportKind;

class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  }
  ~Pipe() {
    close_reader();
    close_writer();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int writer() const { return ends_[1]; }
  void close_reader() { close_end(0); }
  void close_writer() { close_end(1); }
  /// Fills the pipe, so that the next write has to wait for a reader.
  void fill() {
    ::fcntl(ends_[1], F_SETPIPE_SZ, 4096);
    const std::string page(4096, '\n');
    ASSERT_EQ(::write(ends_[1], page.data(), page.size()), 4096);
  }
  /// All lines until the writer is closed, empty ones left out.
  std::vector<std::string> read_lines() {
    std::string text;
    std::array<char, 4096> buffer;
    for (ssize_t got = 0; (got = ::read(ends_[0], buffer.data(), buffer.size())) > 0;)
      text.append(buffer.data(), static_cast<std::size_t>(got));
    std::vector<std::string> lines;
    for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      if (end > at) lines.push_back(text.substr(at, end - at));
    }
    return lines;
  }

 private:
  void close_end(std::size_t end) {
    if (ends_[end] >= 0) ::close(ends_[end]);
    ends_[end] = -1;
  }
  std::array<int, 2> ends_{-1, -1};
};

std::vector<Report> read_reports(Pipe& pipe) {
  std::vector<Report> reports;
  for (const auto& line : pipe.read_lines()) {
    const auto decoded = contract::decode<Report>(Json::parse(line));
    EXPECT_TRUE(decoded.problems.empty()) << contract::to_text(decoded.problems);
    reports.push_back(decoded.value);
  }
  return reports;
}

std::vector<Report> reports_from(Pipe& pipe) {
  pipe.close_writer();
  return read_reports(pipe);
}

/// What an agent gets that reads again only when the rank is about to end.
std::vector<Report> read_while_closing(Reporter& reporter, Pipe& pipe) {
  std::vector<Report> reports;
  std::thread agent([&] { reports = read_reports(pipe); });
  reporter.close();
  pipe.close_writer();
  agent.join();
  return reports;
}

contract::Progress progress_of(std::int64_t step) { return {.step = step, .steps = 500, .loss = 3.5}; }

TEST(Reporter, WritesEachReportAsALineOfJson) {
  Pipe pipe;
  Reporter reporter(pipe.writer(), true);
  reporter.progress(progress_of(1));
  reporter.checkpoint({.step = 1, .path = "/c/step-00000001"}, 7);
  reporter.notice(true, "CheckpointFailed", "write /c: No space left on device");
  reporter.failure({.failureClass = contract::FailureClass::kUser, .reason = "CorpusMissing", .message = "two\nlines"});
  reporter.close();
  const auto reports = reports_from(pipe);
  ASSERT_EQ(reports.size(), 4u);
  EXPECT_EQ(reports[0].progress, progress_of(1));
  EXPECT_EQ(reports[1].checkpoint->path, "/c/step-00000001");
  EXPECT_EQ(reports[1].request, 7);
  EXPECT_TRUE(reports[2].notice->warning);
  EXPECT_EQ(reports[2].notice->reason, "CheckpointFailed");
  EXPECT_EQ(reports[3].failure->message, "two\nlines");
  EXPECT_EQ(reports[3].kind, ReportKind::kFailure);
}

TEST(Reporter, KeepsTheNewestProgressWhileNobodyReads) {
  Pipe pipe;
  pipe.fill();
  Reporter reporter(pipe.writer(), true);
  for (std::int64_t step = 1; step <= 1000; ++step) reporter.progress(progress_of(step));
  const auto reports = read_while_closing(reporter, pipe);
  ASSERT_GE(reports.size(), 256u);
  EXPECT_LE(reports.size(), 257u);  // one that the writer held already, and the newest
  EXPECT_EQ(reports.back().progress->step, 1000);
  for (std::size_t i = 2; i < reports.size(); ++i) EXPECT_EQ(reports[i].progress->step, reports[i - 1].progress->step + 1);
}

TEST(Reporter, DropsTheOldestNoticesButNeverAFailureWhileNobodyReads) {
  Pipe pipe;
  pipe.fill();
  Reporter reporter(pipe.writer(), true);
  reporter.failure({.reason = "First"});
  for (int i = 0; i < 1000; ++i) reporter.notice(false, "Notice", std::to_string(i));
  const auto reports = read_while_closing(reporter, pipe);
  ASSERT_GE(reports.size(), 64u);
  EXPECT_LE(reports.size(), 66u);
  EXPECT_EQ(reports.back().notice->message, "999");
  const auto failures =
      std::count_if(reports.begin(), reports.end(), [](const Report& r) { return r.kind == ReportKind::kFailure; });
  EXPECT_EQ(failures, 1);
}

TEST(Reporter, PutsProgressBeforeTheCheckpointThatFollowedIt) {
  Pipe pipe;
  pipe.fill();
  Reporter reporter(pipe.writer(), true);
  reporter.notice(false, "First", "");
  reporter.progress(progress_of(100));
  reporter.checkpoint({.step = 100, .path = "/c"});
  reporter.progress(progress_of(101));
  const auto reports = read_while_closing(reporter, pipe);
  ASSERT_EQ(reports.size(), 4u);
  EXPECT_EQ(reports[1].progress->step, 100);
  EXPECT_EQ(reports[2].kind, ReportKind::kCheckpoint);
  EXPECT_EQ(reports[3].progress->step, 101);
}

TEST(Reporter, KeepsOnlyTheNewestOfWhatTheRankDoes) {
  Pipe pipe;
  pipe.fill();
  Reporter reporter(pipe.writer(), true);
  reporter.notice(false, "First", "");  // taken out of the queue, and waits for the pipe
  for (std::int64_t mark = 1; mark <= 100; ++mark) reporter.activity({.mark = mark});
  reporter.progress(progress_of(1));
  const auto reports = read_while_closing(reporter, pipe);
  const auto activities =
      std::count_if(reports.begin(), reports.end(), [](const Report& r) { return r.kind == ReportKind::kActivity; });
  EXPECT_LE(activities, 2) << "one may have been taken out before the others came";
  EXPECT_EQ(reports.back().progress->step, 1);
  EXPECT_EQ(reports.at(reports.size() - 2).activity->mark, 100);
}

TEST(Reporter, GoesOnWhenItsReaderIsGone) {
  Pipe pipe;
  pipe.close_reader();
  Reporter reporter(pipe.writer(), true);
  for (std::int64_t step = 1; step <= 100; ++step) reporter.progress(progress_of(step));
  reporter.close();
  reporter.notice(false, "Late", "");  // dropped
}

TEST(Reporter, CutsALongFailureToWhatAStatusHolds) {
  Pipe pipe;
  Reporter reporter(pipe.writer(), true);
  reporter.failure({.reason = "Long", .message = std::string(20'000, 'x') + "the cause"});
  reporter.close();
  const auto reports = reports_from(pipe);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_LT(reports[0].failure->message.size(), 4096u);
  EXPECT_TRUE(reports[0].failure->message.ends_with("the cause"));
}

TEST(Reporter, WritesForPeopleWhereThereIsNoAgent) {
  Pipe pipe;
  Reporter reporter(pipe.writer(), false);
  reporter.progress(
      {.step = 3, .steps = 10, .loss = 2.25, .learningRate = 5.0e-5, .tokensPerSecond = 1234.4, .remainingSeconds = 7});
  reporter.close();
  pipe.close_writer();
  EXPECT_EQ(pipe.read_lines(),
            (std::vector<std::string>{"step 3/10  loss 2.2500  learning rate 5.00e-05  1234 tokens/s  7 s left"}));
}

TEST(ReportText, SaysEachKindInALine) {
  EXPECT_EQ(
      to_text({.kind = ReportKind::kCheckpoint, .checkpoint = contract::CheckpointStatus{.step = 5, .path = "/c/step-00000005"}}),
      "checkpoint of step 5 is durable in /c/step-00000005");
  EXPECT_EQ(to_text({.kind = ReportKind::kNotice, .notice = contract::Notice{.warning = true, .reason = "A", .message = "b"}}),
            "warning: A: b");
  EXPECT_EQ(to_text({.kind = ReportKind::kFailure,
                     .failure = contract::Failure{.failureClass = contract::FailureClass::kUser, .reason = "A", .message = "b"}}),
            "failed (User): A: b");
  EXPECT_EQ(to_text({.kind = ReportKind::kProgress}), "{\"kind\":\"Progress\"}");
}

}  // namespace
}  // namespace trainyard::report
