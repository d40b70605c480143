// What a rank writes to its report descriptor, cut anywhere by the pipe: the state that comes of it can be told, and its last word has at
// most 4 KB.

#include <algorithm>
#include <chrono>

#include "crds/contract/parse_json.h"
#include "tests/fuzz/target.h"
#include "worker/agent/agent_core.h"
#include "worker/agent/line_splitter.h"
#include "worker/agent/metrics.h"

using namespace trainyard;
using fuzz::expect;

std::vector<std::string> fuzz::seeds() {
  contract::Report progress{.kind = contract::ReportKind::kProgress};
  progress.progress =
      contract::Progress{.step = 1, .steps = 500, .loss = 3.2, .remainingSeconds = 9, .updatedAt = "2026-01-01T00:00:09Z"};
  progress.measures = contract::Measures{.memoryPeakBytes = 7, .lossZScore = 1.5};
  contract::Report checkpoint{.kind = contract::ReportKind::kCheckpoint};
  checkpoint.checkpoint = contract::CheckpointStatus{.step = 1, .path = "/c/1", .completedAt = "2026-01-01T00:00:09Z"};
  checkpoint.request = 1;
  contract::Report notice{.kind = contract::ReportKind::kNotice};
  notice.notice = contract::Notice{.warning = true, .reason = "CheckpointFailed", .message = "no space"};
  contract::Report failure{.kind = contract::ReportKind::kFailure};
  failure.failure =
      contract::Failure{.failureClass = contract::FailureClass::kUser, .reason = "CorpusMissing", .message = "no corpus"};
  contract::Report activity{.kind = contract::ReportKind::kActivity};
  activity.activity = contract::RankActivity{.rank = 0, .step = 1, .mark = 3, .warm = true, .doing = "forward"};
  activity.activity->call =
      contract::GroupCall{.group = "data", .operation = "all_reduce", .number = 2, .elements = 4, .seconds = 0.5};
  activity.activity->started = {{"data", 2}};
  std::string all;
  std::vector<std::string> out;
  for (const auto& report : {progress, checkpoint, notice, failure, activity}) {
    out.push_back(contract::encode(report).dump() + "\n");
    all += out.back();
  }
  out.push_back(all);
  return out;
}

namespace {

constexpr std::size_t kLimit = 1'000;

std::vector<std::string> lines_of(std::string_view text, std::size_t step) {
  std::vector<std::string> out;
  agent::LineSplitter lines(kLimit, [&out](std::string_view line) { out.emplace_back(line); });
  for (std::size_t at = 0; at < text.size(); at += step) lines.add(text.substr(at, step));
  lines.finish();
  return out;
}

class OneAgent {
 public:
  OneAgent() {
    contract::Assignment assignment{.jobUid = "u", .job = "default/a", .generation = 1, .ranks = {0, 1}, .worldSize = 2};
    assignment.spec.lifecycle.hangTimeoutSeconds = 60;
    core_.assign(assignment, now());
  }
  void hear(std::int32_t rank, const contract::Report& report) {
    core_.reported(rank, report, now());
    check();
  }
  void end() {
    for (int i = 0; i < 200; ++i) {
      uptime_ += std::chrono::seconds(1);
      core_.tick(now());
    }
    check();
    core_.exited({{.rank = 0, .exit_code = 1, .last_lines = {"words"}}, {.rank = 1, .signal = 9}}, now());
    check();
  }

 private:
  agent::Now now() const { return {.uptime = uptime_, .wall = contract::Time(std::chrono::seconds(1'767'225'600)) + uptime_}; }
  void check() {
    const auto& state = core_.state();
    const auto again = contract::decode<contract::State>(contract::encode(state), "", contract::UnknownFields::kRefuse);
    expect(again.problems.empty() && again.value == state, "a state is not read as it was written");
    const std::string word = contract::termination_message(state);
    expect(word.size() <= 4'096, "a last word is too long for a kubelet");
    expect(contract::decode<contract::State>(contract::parse_json(word)).problems.empty(), "a last word is no state");
    agent::metrics_text(state, {}, core_.measured());
  }

  agent::AgentCore core_{agent::Worker{.pod_uid = "pod", .bind_address = "10.0.0.1", .node = "n"}, {}};
  std::chrono::milliseconds uptime_{1'000};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto text = fuzz::text_of(bytes, size);
  const auto lines = lines_of(text, std::max<std::size_t>(1, size));
  for (const std::size_t step : {1, 7}) expect(lines_of(text, step) == lines, "a cut made other lines");
  OneAgent one;
  for (const auto& line : lines) {
    expect(line.size() <= kLimit, "a line is longer than its limit");
    const auto report = contract::decode<contract::Report>(contract::parse_json(line));
    if (report.problems.empty()) one.hear(0, report.value);
  }
  one.end();
  return 0;
}
