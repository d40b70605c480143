// A rank that trains nothing: it behaves as a script says, and speaks to the agent as trainyard-rank does.
// The script is in the variable FAKE_RANK_SCRIPT, or else the path of the first source, spec.data.train[0].path: commands separated
// by spaces.
//
//   steps:N      report N steps, as fast as they can be written (rank 0 only, as in the engine)
//   checkpoint   report a durable checkpoint
//   notice:X     report a warning X
//   say:X        write the line X to the log, underscores as spaces
//   child        start a grandchild that sleeps; its pid goes to the log as "child PID"
//   report:X     report a failure of class User with the message X
//   busy         tell that it computes, having made two calls of the data axis
//   waits:N      tell that it has waited in the third one for N seconds
//   wait         obey the agent from here on: answer checkpointRequest, end with kStoppedExitCode at stopAfter
//   stubborn     read the agent's words but never obey
//   crash:N      raise signal N        exit:N   end with exit code N
//   once:FILE    end the script here with exit code 1 unless FILE is there already; make it
//   make:FILE    make FILE                 until:FILE   wait until FILE is there
//   only:R       the commands after it are for rank R alone; others go on at `all`
//   all
//
// At the end of the script the exit code is 0. The end of the input ends the process at once.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include <sys/prctl.h>
#include <unistd.h>

#include "crds/contract/assignment.h"
#include "crds/contract/state.h"

namespace {

using namespace trainyard::contract;

void report(const Report& words) {
  const std::string line = encode(words).dump() + "\n";
  if (::write(kReportDescriptor, line.data(), line.size()) < 0) std::_Exit(1);
}

void report_steps(const RankConfig& config, std::int64_t steps) {
  for (std::int64_t step = 1; config.rank == 0 && step <= steps; ++step) {
    Progress progress;
    progress.step = step;
    progress.steps = config.spec.training.steps.value_or(steps);
    progress.tokens = step * 1024;
    progress.loss = 5.5 / static_cast<double>(step);
    progress.tokensPerSecond = 1000;
    progress.remainingSeconds = progress.steps - step;
    report({.kind = ReportKind::kProgress, .progress = progress});
  }
}

void report_checkpoint(const RankConfig& config, std::int64_t request) {
  Report words{.kind = ReportKind::kCheckpoint};
  words.checkpoint =
      CheckpointStatus{.step = 7, .path = config.spec.checkpoint ? config.spec.checkpoint->path : "", .completedAt = ""};
  if (request > 0) words.request = request;
  report(words);
}

void report_activity(const RankConfig& config, std::optional<double> waited) {
  RankActivity activity{.rank = config.rank, .step = 4, .mark = 9, .warm = true, .doing = "forward", .started = {{"data", 2}}};
  if (waited) {
    activity.started["data"] = 3;
    activity.call = GroupCall{.group = "data", .operation = "all_reduce", .number = 3, .elements = 64, .seconds = *waited};
  }
  report({.kind = ReportKind::kActivity, .activity = activity});
}

[[noreturn]] void listen(const RankConfig& config, bool obey) {
  std::int64_t answered = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const auto control = decode<RankControl>(Json::parse(line)).value;
    std::cout << "heard " << line << std::endl;
    if (!obey) continue;
    if (control.checkpointRequest > answered) report_checkpoint(config, answered = control.checkpointRequest);
    if (control.stopAfter && *control.stopAfter <= answered) std::_Exit(kStoppedExitCode);
  }
  std::_Exit(1);  // the agent is gone
}

void start_grandchild() {
  const pid_t pid = ::fork();
  if (pid == 0) {
    while (true) ::pause();
  }
  std::cout << "child " << pid << std::endl;
}

void obey(const RankConfig& config, const std::string& command, std::string argument) {
  if (command == "steps") return report_steps(config, std::stoll(argument));
  if (command == "checkpoint") return report_checkpoint(config, 0);
  if (command == "notice") {
    return report(
        {.kind = ReportKind::kNotice, .notice = Notice{.warning = true, .reason = "CheckpointFailed", .message = argument}});
  }
  if (command == "say") {
    std::replace(argument.begin(), argument.end(), '_', ' ');
    std::cout << argument << std::endl;
    return;
  }
  if (command == "report") {
    return report({.kind = ReportKind::kFailure,
                   .failure = Failure{.failureClass = FailureClass::kUser, .reason = "CorpusMissing", .message = argument}});
  }
  if (command == "busy") return report_activity(config, {});
  if (command == "waits") return report_activity(config, std::stod(argument));
  if (command == "child") return start_grandchild();
  if (command == "wait" || command == "stubborn") listen(config, command == "wait");
  if (command == "crash") {
    std::signal(std::stoi(argument), SIG_DFL);
    std::raise(std::stoi(argument));
  }
  if (command == "once") {
    if (std::ifstream(argument)) return;
    std::ofstream(argument) << "1";
    std::_Exit(1);
  }
  if (command == "make") {
    std::ofstream(argument) << "1";
    return;
  }
  if (command == "until") {
    while (!std::ifstream(argument)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return;
  }
  if (command == "exit") std::_Exit(std::stoi(argument));
  std::cout << "no such command: " << command << std::endl;
  std::_Exit(kEngineErrorExitCode);
}

}  // namespace

int main() {
  std::string line;
  if (!std::getline(std::cin, line)) return kEngineErrorExitCode;
  const auto config = decode<RankConfig>(Json::parse(line)).value;
  std::cout << "pid " << ::getpid() << " generation " << config.generation << " rank " << config.rank << std::endl;
  const char* given = std::getenv("FAKE_RANK_SCRIPT");
  std::istringstream script(given != nullptr ? given : config.spec.data.train.empty() ? "" : config.spec.data.train.front().path);
  bool mine = true;
  for (std::string word; script >> word;) {
    const auto colon = word.find(':');
    const std::string command = word.substr(0, colon), argument = colon == std::string::npos ? "" : word.substr(colon + 1);
    if (command == "only") {
      mine = std::stoi(argument) == config.rank;
    } else if (command == "all") {
      mine = true;
    } else if (mine) {
      obey(config, command, argument);
    }
  }
  return kFinishedExitCode;
}
