// trainyard-rank: one rank of a training job. Its agent starts it, writes a RankConfig and then RankControls to its standard input, one a
// line, and reads its reports from file descriptor 3 (crds/contract/assignment.h, state.h). It takes no arguments.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "crds/contract/state.h"
#include "crds/contract/user_error.h"
#include "worker/report/reporter.h"
#include "worker/trainer/control_reader.h"
#include "worker/trainer/line_reader.h"
#include "worker/trainer/rank_program.h"

int main(int argc, char**) {
  using namespace trainyard;
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
  std::optional<trainer::ControlReader> control;
  const int exit_code = trainer::guarded(reporter, [&] {
    trainer::LineReader lines(STDIN_FILENO);
    const auto line = lines.next();
    if (!line) throw contract::UserError("ConfigurationInvalid", "standard input ended before the rank's configuration");
    const auto config = trainer::read_config(*line);
    control.emplace(std::move(lines), [] { std::_Exit(contract::kEngineErrorExitCode); });
    return trainer::run_rank(config, reporter, [&] { return control->latest(); });
  });
  reporter.close();
  // Not by returning: the control thread still waits for the agent, and process groups whose peers are gone would wait for them.
  std::fflush(nullptr);
  std::_Exit(exit_code);
}
