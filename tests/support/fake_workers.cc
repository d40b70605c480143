#include "tests/support/fake_workers.h"

#include <algorithm>
#include <csignal>

namespace trainyard::test {
namespace {

using agent::RankExit;
using contract::Report;
using contract::ReportKind;

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

std::int64_t steps_of(const contract::TrainingJobSpec& spec) { return spec.training.steps.value_or(100); }

contract::Progress progress_at(std::int64_t step, const contract::TrainingJobSpec& spec, milliseconds pace, contract::Time now) {
  contract::Progress progress{.step = step, .steps = steps_of(spec), .samples = step * spec.training.globalBatchSize};
  progress.tokens = progress.samples * spec.data.sequenceLength;
  progress.loss = 5.0 / (1.0 + 0.1 * static_cast<double>(step));
  progress.remainingSeconds = std::chrono::ceil<seconds>((steps_of(spec) - step) * pace).count();
  progress.updatedAt = contract::to_rfc3339(now);
  return progress;
}

}  // namespace

void FakeWorkers::start(const Container& container) {
  Agent& agent = agents_[container.pod_uid];
  agent.container = container;
  const auto ip = container.address.substr(0, container.address.rfind(':'));
  agent.core = std::make_unique<agent::AgentCore>(
      agent::Worker{.pod_uid = container.pod_uid, .bind_address = ip, .node = container.node}, limits);
  agent.started = time_.uptime();
  for (const auto& call : listeners_) call(container.pod_uid);
}

void FakeWorkers::terminate(const std::string& pod_uid) {
  const auto found = agents_.find(pod_uid);
  if (found != agents_.end()) act(pod_uid, found->second.core->terminate(now()));
}

void FakeWorkers::kill(const std::string& pod_uid) {
  const auto found = agents_.find(pod_uid);
  if (found == agents_.end()) return;
  const auto ranks = std::move(found->second.ranks);
  agents_.erase(found);
  for (const auto& [index, rank] : ranks) leave(pod_uid, rank);
  for (const auto& call : listeners_) call(pod_uid);
}

std::optional<contract::State> FakeWorkers::state(const std::string& pod_uid, const std::string& address, const std::string& key,
                                                  std::string& why) const {
  const auto found = agents_.find(pod_uid);
  if (found == agents_.end() || found->second.container.address != address) {
    why = "connect to " + address + ": connection refused";
  } else if (cut_off_.contains(found->second.container.node) || hidden_.contains(pod_uid)) {
    why = "connect to " + address + ": timed out";
  } else if (found->second.container.key != key) {
    why = kKeysDiffer;
  }
  if (!why.empty()) return std::nullopt;
  found->second.core->asked(now());
  return found->second.core->state();
}

agent::Answer FakeWorkers::assign(const std::string& pod_uid, const contract::Assignment& assignment) {
  agent::Answer answer = core(pod_uid).assign(assignment, now());
  act(pod_uid, answer.actions);
  return answer;
}

bool FakeWorkers::crash(const std::string& pod_uid, int exit_code, int signal, const std::string& last_line) {
  const auto found = agents_.find(pod_uid);
  if (found == agents_.end() || found->second.ranks.empty()) return false;
  auto rank = found->second.ranks.begin();
  std::advance(rank, time_.random(0, static_cast<std::int64_t>(found->second.ranks.size()) - 1));
  end_rank(pod_uid, rank->first, {.rank = rank->first, .exit_code = exit_code, .signal = signal, .last_lines = {last_line}});
  return true;
}

std::vector<std::string> FakeWorkers::running_pods() const {
  std::vector<std::string> out;
  for (const auto& [uid, agent] : agents_) out.push_back(uid);
  return out;
}

void FakeWorkers::act(const std::string& pod_uid, const agent::Actions& actions) {
  bool publishes = false;
  for (const auto& action : actions) {
    std::visit(
        Overloaded{[&](const agent::StartRank& start) { start_rank(pod_uid, start); },
                   [&](const agent::KillRank& kill) { end_rank(pod_uid, kill.rank, {.rank = kill.rank, .signal = SIGKILL}); },
                   [&](const agent::SendControl& send) {
                     const auto found = agents_[pod_uid].ranks.find(send.rank);
                     if (found != agents_[pod_uid].ranks.end()) found->second.control = send.control;
                   },
                   [&](const agent::Publish&) { publishes = true; },
                   [&](const agent::Exit& exit) {
                     if (std::exchange(agents_[pod_uid].exiting, true)) return;
                     time_.after(time_.random_time(milliseconds(1), pace.exit_high), [this, pod_uid, exit] {
                       const auto found = agents_.find(pod_uid);
                       if (found == agents_.end()) return;
                       const std::string message = contract::termination_message(found->second.core->state());
                       kill(pod_uid);
                       if (exited) exited(pod_uid, exit.code, message);
                     });
                   }},
        action);
  }
  if (publishes) {
    for (const auto& call : listeners_) call(pod_uid);
  }
  set_timer(pod_uid);
}

void FakeWorkers::set_timer(const std::string& pod_uid) {
  const auto deadline = agents_.at(pod_uid).core->deadline();
  if (!deadline) return;
  time_.after(std::max(milliseconds(1), *deadline - time_.uptime()), [this, pod_uid] {
    const auto found = agents_.find(pod_uid);
    if (found == agents_.end()) return;
    const auto actions = found->second.core->tick(now());
    if (!actions.empty()) act(pod_uid, actions);
  });
}

void FakeWorkers::start_rank(const std::string& pod_uid, const agent::StartRank& action) {
  const std::int32_t index = action.config.rank;
  const std::uint64_t number = ++numbers_;
  agents_[pod_uid].ranks[index] = {.config = action.config, .control = action.control, .met = false, .number = number};
  time_.after(time_.random_time(pace.start_low, pace.start_high),
              [this, pod_uid, index, number] { meet(pod_uid, index, number); });
}

void FakeWorkers::meet(const std::string& pod_uid, std::int32_t index, std::uint64_t number) {
  const auto agent = agents_.find(pod_uid);
  if (agent == agents_.end()) return;
  const auto found = agent->second.ranks.find(index);
  if (found == agent->second.ranks.end() || found->second.number != number) return;
  Rank& rank = found->second;
  if (const auto spoilt = spoilt_.find(rank.config.jobUid); spoilt != spoilt_.end()) {
    Report said{.kind = ReportKind::kFailure};
    said.failure = spoilt->second;
    report(pod_uid, index, said);
    return end_rank(pod_uid, index, {.rank = index, .exit_code = contract::kUserErrorExitCode, .last_lines = {"no corpus"}});
  }
  rank.met = true;
  const RunKey key{rank.config.jobUid, rank.config.generation};
  Run& run = runs_[key];
  run.world_size = rank.config.worldSize;
  if (!run.members.emplace(index, pod_uid).second) {
    truths_[key.first].violations.push_back("rank " + std::to_string(index) + " of generation " + std::to_string(key.second) +
                                            " runs twice");
  }
  if (static_cast<std::int32_t>(run.members.size()) < run.world_size || run.ticking) return;
  run.ticking = true;
  run.spec = std::make_shared<const contract::TrainingJobSpec>(rank.config.spec);
  run.step = truths_[key.first].checkpoint;
  run.due = time_.uptime();
  if (pace.from_start) {
    run.due = milliseconds(0);
    for (const auto& [member, uid] : run.members) run.due = std::max(run.due, agents_.at(uid).started);
  }
  tick_later(key, run);
}

void FakeWorkers::tick_later(const RunKey& key, Run& run) {
  run.due += pace.step;
  time_.at(run.due, [this, key] { tick(key); });
}

void FakeWorkers::tick(const RunKey& key) {
  const auto found = runs_.find(key);
  if (found == runs_.end()) return;
  Run& run = found->second;
  if (static_cast<std::int32_t>(run.members.size()) < run.world_size) return;  // it broke; lose_peer() ends the rest
  if (is_split(run)) return lose_peer(key);
  const auto spec = run.spec;
  check(key, run);
  run.step = std::min(run.step + 1, steps_of(*spec));
  Truth& truth = truths_[key.first];
  if (truth.generation != key.second) ++truth.generations_run;
  truth.generation = key.second;
  truth.step = run.step;
  truth.most_steps = std::max(truth.most_steps, run.step);
  Report said{.kind = ReportKind::kProgress};
  said.progress = progress_at(run.step, *spec, pace.step, time_.now());
  report(run.members.at(0), 0, said);
  after_step(key, run, *spec);
}

void FakeWorkers::after_step(const RunKey& key, Run& run, const contract::TrainingJobSpec& spec) {
  contract::RankControl wish;
  for (const auto& [index, pod_uid] : run.members) {  // the word rides on the step's reduction: the greatest counts
    const auto& control = agents_.at(pod_uid).ranks.at(index).control;
    wish.checkpointRequest = std::max(wish.checkpointRequest, control.checkpointRequest);
    if (control.stopAfter) wish.stopAfter = std::max(wish.stopAfter.value_or(0), *control.stopAfter);
  }
  const bool last = run.step >= steps_of(spec);
  const auto every = spec.checkpoint ? spec.checkpoint->everySteps.value_or(0) : 0;
  if (wish.checkpointRequest > run.request_done) {
    run.request_done = wish.checkpointRequest;
    checkpoint(key, run, spec, wish.checkpointRequest);
  } else if (last || (every > 0 && run.step % every == 0)) {
    checkpoint(key, run, spec, std::nullopt);
  }
  if (last) {
    truths_[key.first].finished = true;
    return end_all(key, contract::kFinishedExitCode);
  }
  if (wish.stopAfter && run.request_done >= *wish.stopAfter) return end_all(key, contract::kStoppedExitCode);
  tick_later(key, run);
}

void FakeWorkers::checkpoint(const RunKey& key, Run& run, const contract::TrainingJobSpec& spec,
                             std::optional<std::int64_t> request) {
  if (!spec.checkpoint) return;
  truths_[key.first].checkpoint = run.step;
  Report said{.kind = ReportKind::kCheckpoint};
  said.checkpoint = contract::CheckpointStatus{.step = run.step,
                                               .path = spec.checkpoint->path + "/step-" + std::to_string(run.step),
                                               .completedAt = contract::to_rfc3339(time_.now())};
  said.request = request;
  report(run.members.at(0), 0, said);
}

void FakeWorkers::end_all(const RunKey& key, int exit_code) {
  for (const auto& [index, pod_uid] : runs_.at(key).members) end_later(pod_uid, index, exit_code, pace.end_high);
  runs_.erase(key);  // whoever ends after the last step is missed by nobody
}

void FakeWorkers::lose_peer(const RunKey& key) {
  const auto found = runs_.find(key);
  if (found == runs_.end() || !found->second.ticking) return;
  for (const auto& [index, pod_uid] : found->second.members) {
    end_later(pod_uid, index, contract::kPeerLostExitCode, milliseconds(3'000));
  }
  runs_.erase(found);
}

void FakeWorkers::end_later(const std::string& pod_uid, std::int32_t index, int exit_code, milliseconds at_most) {
  const auto here = agents_.find(pod_uid);
  if (here == agents_.end() || !here->second.ranks.contains(index)) return;
  const std::uint64_t number = here->second.ranks.at(index).number;
  time_.after(time_.random_time(milliseconds(1), at_most), [this, pod_uid, index, number, exit_code] {
    const auto agent = agents_.find(pod_uid);
    if (agent == agents_.end()) return;
    const auto rank = agent->second.ranks.find(index);
    if (rank == agent->second.ranks.end() || rank->second.number != number) return;  // the next generation's already
    end_rank(pod_uid, index, {.rank = index, .exit_code = exit_code});
  });
}

void FakeWorkers::end_rank(const std::string& pod_uid, std::int32_t index, const RankExit& exit) {
  const auto agent = agents_.find(pod_uid);
  if (agent == agents_.end()) return;
  const auto found = agent->second.ranks.find(index);
  if (found == agent->second.ranks.end()) return;
  const Rank rank = std::move(found->second);
  agent->second.ranks.erase(found);
  leave(pod_uid, rank);
  time_.after(time_.random_time(milliseconds(1), pace.reap_high), [this, pod_uid, exit] {
    const auto still = agents_.find(pod_uid);
    if (still != agents_.end()) act(pod_uid, still->second.core->exited({exit}, now()));
  });
}

void FakeWorkers::leave(const std::string& pod_uid, const Rank& rank) {
  const RunKey key{rank.config.jobUid, rank.config.generation};
  const auto run = runs_.find(key);
  if (run == runs_.end()) return;
  const auto member = run->second.members.find(rank.config.rank);
  if (member == run->second.members.end() || member->second != pod_uid) return;
  run->second.members.erase(member);
  if (run->second.ticking) {
    lose_peer(key);
  } else if (run->second.members.empty()) {
    runs_.erase(run);
  }
}

void FakeWorkers::report(const std::string& pod_uid, std::int32_t rank, const Report& said) {
  const auto found = agents_.find(pod_uid);
  if (found != agents_.end()) act(pod_uid, found->second.core->reported(rank, said, now()));
}

bool FakeWorkers::is_split(const Run& run) const {
  std::set<std::string> sides;  // a node that is cut off is one side, all others together the other
  for (const auto& [index, pod_uid] : run.members) {
    const auto& node = agents_.at(pod_uid).container.node;
    sides.insert(cut_off_.contains(node) ? node : "");
  }
  return sides.size() > 1;
}

bool FakeWorkers::is_out_of_reach(const std::string& pod_uid) const {
  constexpr milliseconds kKubeletLooks{1'000},
      kLastStep{1'000};  // as FakeKubelets::bring_back() has it; and what was begun is done
  const auto& node = agents_.at(pod_uid).container.node;
  if (cut_off_.contains(node)) return true;
  const auto joined = joined_at_.find(node);
  return hidden_.contains(pod_uid) && joined != joined_at_.end() && time_.uptime() < joined->second + kKubeletLooks + kLastStep;
}

void FakeWorkers::check(const RunKey& key, const Run& run) {
  Truth& truth = truths_[key.first];
  bool can_know = true;  // a whole gang on a lost node can't know that it was replaced
  for (const auto& [index, pod_uid] : run.members) can_know = can_know && !is_out_of_reach(pod_uid);
  if (!can_know) return;
  const std::string at = " at " + std::to_string(time_.uptime().count()) + " ms";
  if (key.second < truth.generation) {
    truth.violations.push_back("generation " + std::to_string(key.second) + " trains after " + std::to_string(truth.generation) +
                               at);
  }
  for (const auto& [other, its] : runs_) {
    if (other.first != key.first || other == key || !its.ticking) continue;
    const bool complete = static_cast<std::int32_t>(its.members.size()) == its.world_size;
    if (complete && !is_split(its) && !is_out_of_reach(its.members.at(0))) {
      truth.violations.push_back("generations " + std::to_string(key.second) + " and " + std::to_string(other.second) +
                                 " train at once" + at);
    }
  }
}

}  // namespace trainyard::test
