#include "worker/agent/run_command.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <optional>
#include <random>
#include <sstream>

#include <sys/prctl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "crds/contract/hang.h"
#include "worker/agent/agent.h"
#include "worker/agent/cgroup.h"
#include "worker/agent/local_manifest.h"
#include "worker/agent/rank_process.h"

namespace trainyard::agent {
namespace {

namespace asio = boost::asio;
using contract::AgentPhase;

std::uint16_t free_port(asio::io_context& io) {
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  return acceptor.local_endpoint().port();
}

/// 16 hexadecimal digits.
std::string random_digits() {
  std::random_device device;
  std::ostringstream text;
  text << std::hex << std::setfill('0') << std::setw(8) << device() << std::setw(8) << device();
  return text.str();
}

/// One run: what a controller would do with the agent's states.
class LocalRun {
 public:
  LocalRun(asio::io_context& io, contract::Manifest manifest, const RunCommand& command, std::ostream& out)
      : io_(io),
        manifest_(std::move(manifest)),
        run_uid_("local-" + manifest_.name + "-" + random_digits()),
        console_(out, command.console),
        signals_(io, SIGINT, SIGTERM, SIGHUP),  // the last when its terminal goes
        deadline_(io) {
    AgentOptions options;
    options.worker = {.pod_uid = "local", .bind_address = "127.0.0.1", .node = {}, .cpus = usable_cpus()};
    options.limits = {.grace = std::chrono::seconds(manifest_.spec.lifecycle.checkpointGraceSeconds),
                      .linger = std::chrono::milliseconds(0),
                      .progress_interval = std::chrono::milliseconds(0)};
    options.rank_program = command.rank_program;
    options.reap_orphans = true;
    options.log = [this](Severity severity, std::string_view message, const nlohmann::json& keys) {
      if (severity != Severity::kWarning) return;
      // What a rank wrote may have been cut within a character.
      console_.line("Warning: " + std::string(message) + " " +
                    keys.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    };
    agent_.emplace(io, options,
                   Agent::Callbacks{.log_line = [this](auto rank, auto line) { console_.rank_line(rank, line); },
                                    .published = [this] { published(); },
                                    .ended = [this](int) { asio::post(io_, [this] { io_.stop(); }); }});
  }

  int run() {
    wait_for_signal();
    if (const auto seconds = manifest_.spec.lifecycle.activeDeadlineSeconds) set_deadline(std::chrono::seconds(*seconds));
    const auto ranks = contract::world_size(manifest_.spec);
    console_.line("Training " + manifest_.name + " with " + std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks") +
                  " on this machine. Ctrl-C writes a checkpoint and stops.");
    start_generation();
    io_.run();
    return exit_code_;
  }

 private:
  void start_generation() {
    assignment_ = local_assignment(manifest_, run_uid_, ++generation_, free_port(io_));
    agent_->assign(assignment_);
  }

  void published() {
    const auto& state = agent_->state();
    console_.state(state);
    const bool ended =
        state.phase == AgentPhase::kSucceeded || state.phase == AgentPhase::kStopped || state.phase == AgentPhase::kFailed;
    // The agent is in the middle of its event: what follows waits for its end.
    if (ended && !exceeded_deadline_) asio::post(io_, [this] { generation_ended(); });
  }

  void generation_ended() {
    auto state = agent_->state();
    if (state.failure) state.failure = explained(*state.failure, state.activities);
    if (state.phase == AgentPhase::kSucceeded) {
      console_.line("Succeeded" + (state.progress ? ": " + progress_text(*state.progress) : std::string()));
      exit_code_ = kRunSucceeded;
    } else if (state.phase == AgentPhase::kStopped) {
      console_.line(how_to_resume(state));
      exit_code_ = kRunStopped;
    } else if (may_restart(state)) {
      ++restarts_;
      console_.line(failure_text(*state.failure));
      console_.line("Restarting from the last checkpoint: restart " + std::to_string(restarts_) + " of " +
                    std::to_string(manifest_.spec.lifecycle.maxRestarts) + " (lifecycle.maxRestarts)");
      return start_generation();
    } else {
      console_.line("Failed: " + failure_text(*state.failure));
      exit_code_ = kRunFailed;
    }
    io_.stop();
  }

  /// Without lifecycle.hangTimeoutSeconds a hang shows itself by ranks that gave up waiting: who they waited for is told, as a controller tells it.
  contract::Failure explained(const contract::Failure& failure, const std::vector<contract::RankActivity>& activities) const {
    const auto& spec = manifest_.spec;
    const auto degrees = contract::degrees(spec);
    const std::int32_t ranks = contract::world_size(spec);
    if (std::int64_t{degrees.pp} * degrees.dp * degrees.cp * degrees.tp != ranks) return failure;
    auto hang = contract::as_hang(failure, {degrees, ranks}, activities, spec.lifecycle.hangTimeoutSeconds);
    if (!hang) return failure;
    if (hang->rank != failure.rank) {  // of the rank that gave up
      hang->exitCode.reset();
      hang->signal.reset();
    }
    return *hang;
  }

  bool may_restart(const contract::State& state) const {
    return !stopping_ && state.failure->failureClass != contract::FailureClass::kUser &&
           restarts_ < manifest_.spec.lifecycle.maxRestarts;
  }

  std::string how_to_resume(const contract::State& state) const {
    const std::string step = state.progress ? " after step " + std::to_string(state.progress->step) : "";
    if (!manifest_.spec.checkpoint) return "Stopped" + step + ". The manifest has no spec.checkpoint, so nothing was kept.";
    return "Stopped" + step + ". To go on from the checkpoint in " + manifest_.spec.checkpoint->path +
           ", run the same command again.";
  }

  void wait_for_signal() {
    signals_.async_wait([this](auto error, int) {
      if (error) return;
      if (stopping_) {
        console_.line("Killing the ranks.");
        exit_code_ = kRunInterrupted;
        return io_.stop();
      }
      stopping_ = true;
      console_.line("Stopping after a checkpoint, within " + std::to_string(manifest_.spec.lifecycle.checkpointGraceSeconds) +
                    " s. Ctrl-C again kills the ranks at once.");
      agent_->terminate();
      wait_for_signal();
    });
  }

  void set_deadline(std::chrono::seconds after) {
    deadline_.expires_after(after);
    deadline_.async_wait([this, after](auto error) {
      if (error) return;
      exceeded_deadline_ = true;
      exit_code_ = kRunFailed;
      console_.line("Failed: DeadlineExceeded: the job ran longer than the " + std::to_string(after.count()) +
                    " s of lifecycle.activeDeadlineSeconds");
      assignment_.release = true;
      agent_->assign(assignment_);
    });
  }

  asio::io_context& io_;
  const contract::Manifest manifest_;
  const std::string run_uid_;
  Console console_;
  asio::signal_set signals_;
  asio::steady_timer deadline_;
  contract::Assignment assignment_;
  std::int64_t generation_ = 0;
  std::int32_t restarts_ = 0;
  bool stopping_ = false;
  bool exceeded_deadline_ = false;
  int exit_code_ = kRunFailed;
  std::optional<Agent> agent_;  // last: its callbacks use the above
};

}  // namespace

int run_locally(const RunCommand& command, std::ostream& out, std::ostream& problems) {
  std::ifstream file(command.manifest);
  if (!file) {
    problems << "read " << command.manifest << ": there is no such file, or it cannot be read\n";
    return kRunRefused;
  }
  std::ostringstream text;
  text << file.rdbuf();
  std::vector<PathMapping> mappings;
  for (const auto& mapping : command.path_mappings) {
    mappings.push_back(parse_path_mapping(mapping));
    mappings.back().to = std::filesystem::absolute(mappings.back().to).lexically_normal().string();
  }
  auto manifest =
      read_local_manifest(text.str(), mappings, [](const std::string& path) { return std::filesystem::exists(path); });
  if (!manifest.problems.empty()) {
    problems << command.manifest << " cannot be trained:\n" << contract::to_text(manifest.problems) << std::endl;
    return kRunRefused;
  }
  check_rank_program(command.rank_program);
  std::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  asio::io_context io(1);
  return LocalRun(io, std::move(manifest), command, out).run();
}

}  // namespace trainyard::agent
