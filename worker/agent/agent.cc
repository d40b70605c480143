#include "worker/agent/agent.h"

#include <csignal>
#include <deque>
#include <fstream>
#include <map>

#include <sys/wait.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "crds/contract/parse_json.h"
#include "worker/agent/cgroup.h"
#include "worker/agent/rank_process.h"

namespace trainyard::agent {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kLastLines = 20;

Now now() {
  using namespace std::chrono;
  return {.uptime = duration_cast<milliseconds>(steady_clock::now().time_since_epoch()),
          .wall = floor<microseconds>(system_clock::now())};
}

/// Text may come from a file name or a YAML file in any encoding; JSON holds UTF-8 only.
std::string one_line(const contract::Json& json) { return json.dump(-1, ' ', false, contract::Json::error_handler_t::replace); }

struct Rank {
  std::unique_ptr<RankProcess> process;
  std::deque<std::string> last_lines;
};

}  // namespace

struct Agent::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& context, AgentOptions given, Callbacks given_callbacks)
      : io(context),
        options(std::move(given)),
        callbacks(std::move(given_callbacks)),
        core(options.worker, options.limits),
        children(io, SIGCHLD),
        timer(io) {}

  void perform(const Actions& actions) {
    for (const auto& action : actions) {
      std::visit([this](const auto& each) { act(each); }, action);
    }
    set_timer();
  }

  void act(const StartRank& start) {
    const std::int32_t number = start.config.rank;
    out_of_memory_kills_before = out_of_memory_kills();
    Rank& rank = ranks[number];
    rank = Rank{};
    try {
      rank.process = std::make_unique<RankProcess>(
          io, options.rank_program,
          RankProcess::Sinks{.log_line = [this, number](std::string_view line) { log_line(number, line); },
                             .report_line = [this, number](std::string_view line) { report_line(number, line); }});
    } catch (const std::system_error& error) {
      ranks.erase(number);
      // Told as an event of its own: the core is in the middle of another one.
      asio::post(io, [self = shared_from_this(), number, what = std::string(error.what())] {
        RankExit exit;
        exit.rank = number;
        exit.could_not_start = what;
        self->perform(self->core.exited({exit}, now()));
      });
      return;
    }
    rank.process->send(one_line(contract::encode(start.config)));
    if (start.control != contract::RankControl{}) rank.process->send(one_line(contract::encode(start.control)));
    info("rank started", {{"rank", number}, {"generation", start.config.generation}, {"pid", rank.process->pid()}});
  }
  void act(const KillRank& kill) {
    if (const auto rank = ranks.find(kill.rank); rank != ranks.end()) rank->second.process->kill();
  }
  void act(const SendControl& control) {
    if (const auto rank = ranks.find(control.rank); rank != ranks.end()) {
      rank->second.process->send(one_line(contract::encode(control.control)));
    }
  }
  void act(const Publish&) {
    using contract::AgentPhase;
    const AgentPhase phase = core.state().phase;
    if (phase == AgentPhase::kFailed || phase == AgentPhase::kSucceeded || phase == AgentPhase::kStopped) write_last_word();
    if (callbacks.published) callbacks.published();
  }
  void act(const Exit& exit) {
    write_last_word();
    if (callbacks.ended) callbacks.ended(exit.code);
  }

  void log_line(std::int32_t number, std::string_view line) {
    auto& lines = ranks[number].last_lines;
    lines.emplace_back(line);
    if (lines.size() > kLastLines) lines.pop_front();
    if (callbacks.log_line) callbacks.log_line(number, line);
  }

  void report_line(std::int32_t number, std::string_view line) {
    const auto json = contract::parse_json(line);
    const auto report = contract::decode<contract::Report>(json);
    if (json.is_discarded() || !report.problems.empty()) {
      warning("a rank's report was not understood",
              {{"rank", number}, {"report", std::string(line.substr(0, 512))}, {"problems", contract::to_text(report.problems)}});
      return;
    }
    perform(core.reported(number, report.value, now()));
  }

  void wait_for_children() {
    children.async_wait([weak = weak_from_this()](auto error, int) {
      const auto self = weak.lock();
      if (error || !self) return;
      self->reap();
      self->wait_for_children();
    });
  }

  void reap() {
    std::vector<RankExit> exits;
    for (auto& [number, rank] : ranks) {
      if (!rank.process || !rank.process->reaped()) continue;
      RankExit exit{.rank = number, .exit_code = rank.process->exit_code(), .signal = rank.process->signal()};
      exit.out_of_memory =
          exit.signal == SIGKILL && out_of_memory_kills_before && out_of_memory_kills() > out_of_memory_kills_before;
      exit.last_lines.assign(rank.last_lines.begin(), rank.last_lines.end());
      exits.push_back(std::move(exit));
    }
    for (const auto& exit : exits) {
      ranks.erase(exit.rank);
      info("rank ended", {{"rank", exit.rank},
                          {"exitCode", exit.exit_code},
                          {"signal", exit.signal == 0 ? std::string() : contract::signal_name(exit.signal)}});
    }
    if (!exits.empty()) perform(core.exited(exits, now()));
    if (options.reap_orphans) reap_orphans();
  }

  /// Children's children whose parent is gone. Ranks are left for reap(), which wants to see them before they are gone.
  void reap_orphans() {
    siginfo_t info{};
    while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
      for (const auto& [number, rank] : ranks) {
        if (rank.process && rank.process->pid() == info.si_pid) {
          asio::post(io, [self = shared_from_this()] { self->reap(); });
          return;
        }
      }
      ::waitpid(info.si_pid, nullptr, 0);
      info = {};
    }
  }

  void set_timer() {
    const auto deadline = core.deadline();
    if (deadline == timer_for) return;
    timer_for = deadline;
    timer.cancel();
    if (!deadline) return;
    timer.expires_at(std::chrono::steady_clock::time_point(*deadline));
    timer.async_wait([weak = weak_from_this()](auto error) {
      const auto self = weak.lock();
      if (error || !self) return;
      self->timer_for.reset();
      self->perform(self->core.tick(now()));
    });
  }

  void info(std::string_view message, const nlohmann::json& keys) const {
    if (options.log) options.log(Severity::kInfo, message, keys);
  }
  void warning(std::string_view message, const nlohmann::json& keys) const {
    if (options.log) options.log(Severity::kWarning, message, keys);
  }

  void write_last_word() {
    if (options.termination_log.empty()) return;
    std::ofstream file(options.termination_log, std::ios::trunc);
    file << contract::termination_message(core.state());
    if (!file.flush()) warning("the termination message could not be written", {{"path", options.termination_log}});
  }

  asio::io_context& io;
  const AgentOptions options;
  const Callbacks callbacks;
  AgentCore core;
  asio::signal_set children;
  asio::steady_timer timer;
  std::optional<std::chrono::milliseconds> timer_for;
  std::map<std::int32_t, Rank> ranks;
  std::optional<std::int64_t> out_of_memory_kills_before;
};

Agent::Agent(asio::io_context& io, AgentOptions options, Callbacks callbacks)
    : impl_(std::make_shared<Impl>(io, std::move(options), std::move(callbacks))) {
  impl_->wait_for_children();
}

Agent::~Agent() {
  impl_->ranks.clear();
  impl_->children.cancel();
  impl_->timer.cancel();
}

Answer Agent::assign(const contract::Assignment& assignment) { return assign_unknown(assignment, {}); }

Answer Agent::assign_unknown(const contract::Assignment& assignment, const std::vector<contract::Problem>& problems) {
  Answer answer = impl_->core.assign(assignment, now(), problems);
  if (answer.status == 200) {
    impl_->info("assignment taken", {{"job", assignment.job},
                                     {"generation", assignment.generation},
                                     {"amends", assignment.amends},
                                     {"ranks", assignment.ranks},
                                     {"checkpointRequest", assignment.checkpointRequest},
                                     {"release", assignment.release}});
  } else {
    impl_->warning("assignment refused",
                   {{"job", assignment.job}, {"generation", assignment.generation}, {"why", answer.message}});
  }
  impl_->perform(answer.actions);
  return answer;
}

void Agent::asked() { impl_->core.asked(now()); }
void Agent::terminate() { impl_->perform(impl_->core.terminate(now())); }

const contract::State& Agent::state() const { return impl_->core.state(); }
std::int64_t Agent::ranks_started() const { return impl_->core.ranks_started(); }
std::int64_t Agent::ranks_failed() const { return impl_->core.ranks_failed(); }
const Measured& Agent::measured() const { return impl_->core.measured(); }

}  // namespace trainyard::agent
