// trainyard-rank: one rank of a training job. Its agent starts it, writes a RankConfig and then RankControls to its standard input, one a
// line, and reads its reports from file descriptor 3 (crds/contract/assignment.h, state.h). It takes no arguments.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <utility>

#include "crds/contract/state.h"
#include "crds/contract/user_error.h"
#include "worker/report/reporter.h"
#include "worker/trainer/control_reader.h"
#include "worker/trainer/line_reader.h"
#include "worker/trainer/rank_program.h"

namespace {

using namespace trainyard;

// std::terminate takes no argument, so this one thing stands in the open.
report::Reporter* the_reporter = nullptr;

void terminated() {
  if (the_reporter != nullptr) trainer::end_by_exception(*the_reporter);
  std::abort();
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) {
    std::fputs(
        "trainyard-rank takes no arguments: it reads its configuration, a line of JSON, from standard input. "
        "`trainyard-worker run job.yaml` starts it.\n",
        stderr);
    return contract::kUserErrorExitCode;
  }
  std::signal(SIGTERM, SIG_IGN);  // the agent hears it, and asks for a checkpoint first
  std::signal(SIGINT, SIG_IGN);   // a terminal sends it to agent and ranks alike
  std::signal(SIGPIPE, SIG_IGN);
  report::Reporter reporter;
  the_reporter = &reporter;
  std::set_terminate(terminated);
  std::optional<trainer::ControlReader> control;
  std::optional<trainer::RankProgram> program;
  const int exit_code = trainer::guarded(reporter, [&] {
    trainer::LineReader lines(STDIN_FILENO);
    const auto line = lines.next();
    if (!line) throw contract::UserError("ConfigurationInvalid", "standard input ended before the rank's configuration");
    auto config = trainer::read_config(*line);
    control.emplace(std::move(lines), [] { std::_Exit(contract::kEngineErrorExitCode); });
    return program.emplace(std::move(config), reporter, [&] { return control->latest(); }).run();
  });
  reporter.close();
  // Not by returning: the control thread still waits for the agent, and process groups whose peers are gone would wait for them, as
  // would a checkpoint's writer for its disk. The failure is told, so nothing is lost.
  std::fflush(nullptr);
  std::_Exit(exit_code);
}
