#include "controller/reconcile/reconciler.h"

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>

#include "controller/decide/conditions.h"
#include "crds/contract/signature.h"

namespace trainyard::reconcile {
namespace {

using decide::ObjectKey;
using std::chrono::milliseconds;

const Key kRoomKey{.kind = Kind::kRoom, .object = {}}, kQueuesKey{.kind = Kind::kQueues, .object = {}};
constexpr milliseconds kRestAfterQueues{1'000};  // their counts change with every job
constexpr milliseconds kListRetry{500};
constexpr milliseconds kListRetryLimit{10'000};
constexpr milliseconds kDrainInterval{50};
// After schedule(): those that end together are looked at together, and the brain spends at most a tenth of its time on jobs that wait.
constexpr milliseconds kLeastRestAfterRoom{5};
constexpr int kRestAfterRoom = 9;  // times what it took
// Of jobs that wait on: so that many that were created at once take no time of the API server from those that have their place.
constexpr std::size_t kTellsAtOnce = 2;
constexpr milliseconds kTellsApart{100};  // while pods are made
constexpr milliseconds kReread{1'000}, kRereadLimit{60'000};
constexpr milliseconds kQuiet{60'000};  // without a foreign status for so long, the next one counts as the first

Key key_for(const ObjectKey& job) { return {.kind = Kind::kTrainingJob, .object = job}; }

std::size_t num_actions(const decide::Plan& plan) {
  std::size_t count = 0;
  for (const auto& phase : plan.phases) count += phase.size();
  return count;
}

/// Of a target that lies in one; else empty.
std::string namespace_of(const kube::WatchTarget& target) {
  constexpr std::string_view kBefore = "/namespaces/";
  const auto at = target.path.find(kBefore);
  if (at == std::string::npos) return "";
  const auto begin = at + kBefore.size();
  return target.path.substr(begin, target.path.find('/', begin) - begin);
}

decide::Settings settings_of(const ReconcilerOptions& options) {
  decide::Settings settings = options.settings;
  settings.key_id = contract::key_id(options.writer.controller_key);
  return settings;
}

}  // namespace

Reconciler::Reconciler(Executor& executor, kube::KubeApi& api, agents::AgentApi& agents, ReconcilerOptions options,
                       Observer& observer)
    : executor_(executor),
      api_(api),
      observer_(observer),
      options_(std::move(options)),
      cache_(settings_of(options_)),
      performer_(executor, api, cache_, options_.writer, options_.may_write, observer),
      targets_(executor, agents, options_.writer.controller_key),
      queue_(
          executor, [this](const Key& key) { run(key); }, options_.pace) {}

void Reconciler::apply(const kube::WatchBatch& batch) {
  cache_.apply(batch, executor_.now());
  pump();
}

void Reconciler::apply(const agents::Observation& observation) {
  if (!leading_) return;  // a late one, of a term that is over
  cache_.apply(observation, executor_.now());
  pump();
}

void Reconciler::start_leading() {
  if (leading_) return;
  leading_ = true;
  ++term_;
  read_everything(term_, 0);
}

void Reconciler::stop_leading() {
  if (!leading_) return;
  leading_ = false;
  drop_work();
  targets_.clear();
  cache_.forget_agents();
}

void Reconciler::drop_work() {
  ++term_;
  performer_.stop();
  queue_.clear();
  refused_.clear();
  room_waits_for_.clear();
  room_plans_ = 0;
  placing_ = 0;
  tells_ = 0;
  untold_.clear();
  room_rest_ = milliseconds(0);
  if (std::exchange(acting_, false)) observer_.acting(false);
}

void Reconciler::read_everything(std::int64_t term, int tries) {
  if (term != term_) return;
  if (performer_.num_requests() > 0) {  // of a former term: their effects have to be in the lists
    executor_.brain_after(kDrainInterval, [this, term, tries] { read_everything(term, tries); });
    return;
  }
  executor_.hand([this, term, tries, targets = cache::watch_targets(options_.settings)] {
    std::vector<kube::WatchBatch> batches;
    kube::Response failure;
    std::map<std::string, std::string> unreadable;  // namespaces, and why
    bool is_all = true;
    for (std::size_t target = 0; target < targets.size() && is_all; ++target) {
      const kube::TakePage take = [this, term, target](kube::Listing page) {
        executor_.brain([this, term, batch = kube::to_batch(target, std::move(page), true)] {
          if (term == term_) cache_.apply_list(batch, executor_.now());
        });
      };
      // Of one namespace everything is taken, or nothing.
      const bool by_page = targets[target].by_page && namespace_of(targets[target]).empty();
      auto list = kube::list_all(api_, targets[target], options_.page_limit, by_page ? take : nullptr);
      failure = std::move(list.failure);
      if (list.ok()) {
        batches.push_back(kube::to_batch(target, std::move(list.listing), false));
      } else if (const auto ns = namespace_of(targets[target]); failure.status == 403 && !ns.empty()) {
        unreadable.emplace(ns, failure.message);
      } else {
        is_all = false;
      }
    }
    // What is known in part would look as if the rest had been lost.
    std::erase_if(batches, [&](const auto& batch) { return unreadable.contains(namespace_of(targets[batch.target])); });
    // Once a term: a server has them from its start, or not at all.
    kube::Response groups = is_all ? api_.perform(pod_groups_request()) : kube::Response{};
    executor_.brain([this, term, tries, is_all, groups = std::move(groups), unreadable = std::move(unreadable),
                     batches = std::move(batches), failure = std::move(failure)]() mutable {
      if (term != term_) return;
      for (const auto& batch : batches) cache_.apply_list(batch, executor_.now());
      for (const auto& [ns, why] : unreadable) {
        observer_.warned("a namespace can't be read: its jobs are left alone", {{"namespace", ns}, {"error", why}});
      }
      if (is_all && !groups.is_temporary()) {
        cache_.learn_of_pod_groups(has_pod_groups(groups));
        return act();
      }
      if (is_all) failure = groups;
      observer_.warned("a new leader could not read the cluster", {{"status", failure.status}, {"error", failure.message}});
      const milliseconds wait = std::min(kListRetryLimit, kListRetry * (1 << std::min(tries, 8)));
      executor_.brain_after(wait, [this, term, tries] { read_everything(term, tries + 1); });
    });
  });
}

void Reconciler::act() {
  acting_ = true;
  observer_.acting(true);
  cache_.take_changes();     // every job is looked at anyway
  targets_.keep(cluster());  // of others nobody would say that they are gone
  for (const auto& key : cluster().job_keys()) queue_.add(key_for(key));
  queue_.add(kRoomKey);
  queue_.add(kQueuesKey);
}

void Reconciler::pump() {
  const cache::Changes changes = cache_.take_changes();
  if (!acting_) return;  // who begins to act looks at everything
  if (changes.foreign_status) {
    drop_work();
    return read_anew();
  }
  for (const auto& job : changes.jobs) queue_.add(key_for(job));
  if (changes.room) queue_.add(kRoomKey);
  if (changes.queues) queue_.add(kQueuesKey);
}

void Reconciler::read_anew() {
  const milliseconds now = executor_.uptime();
  if (now - reread_at_ > kQuiet) rereads_ = 0;
  const milliseconds wait = rereads_ == 0 ? milliseconds(0) : std::min(kRereadLimit, kReread * (1 << std::min(rereads_ - 1, 8)));
  ++rereads_;
  reread_at_ = now + wait;
  const char* what = "a status is not as this controller left it: reading everything anew";
  const char* why = "if this goes on, another controller writes to the same jobs, which only one may do";
  observer_.warned(what, rereads_ == 1 ? contract::Json::object() : contract::Json{{"times", rereads_}, {"cause", why}});
  if (wait == milliseconds(0)) return read_everything(term_, 0);
  executor_.brain_after(wait, [this, term = term_] { read_everything(term, 0); });
}

void Reconciler::run(const Key& key) {
  if (key.kind == Kind::kRoom) {
    run_room();
  } else if (key.kind == Kind::kQueues) {
    run_queues();
  } else {
    run_job(key.object);
  }
}

template <class Decide>
auto Reconciler::decided(const Key& key, const Decide& decide) -> std::optional<decltype(decide())> {
  try {
    return decide();
  } catch (const std::exception& error) {
    observer_.warned("a bug: nothing can be decided; it is tried again", {{"about", to_text(key)}, {"error", error.what()}});
    if (const auto* job = cluster().job(key.object)) performer_.tell(bug_event(job->key, job->uid, error.what()));
    return std::nullopt;
  }
}

void Reconciler::run_room() {
  const milliseconds begun = executor_.uptime();
  std::optional<milliseconds> look_again;
  auto plans = decided(kRoomKey, [this] { return options_.decisions.schedule(cluster(), executor_.now()); });
  if (!plans) return finish(kRoomKey, Ended::kFailed, {});
  room_rest_ = std::max(kLeastRestAfterRoom, kRestAfterRoom * (executor_.uptime() - begun));
  untold_.clear();
  for (auto& [job, plan] : *plans) {
    observer_.planned(kRoomKey, plan.reasons, num_actions(plan), executor_.uptime() - begun);
    if (plan.look_again) look_again = std::min<milliseconds>(look_again.value_or(milliseconds::max()), *plan.look_again);
    if (plan.is_empty()) continue;
    const auto wait = placeable_in(job);
    if (!wait) {
      room_waits_for_.insert(job);
    } else if (*wait > milliseconds(0)) {
      look_again = std::min(look_again.value_or(milliseconds::max()), *wait);
    } else {
      if (only_tells(job, plan)) {
        untold_.emplace_back(job, std::move(plan));
        continue;
      }
      queue_.claim(key_for(job));
      const auto holds_up = std::make_shared<bool>(true);
      const bool places = makes_pods(plan);
      ++room_plans_;
      placing_ += places ? 1 : 0;
      const auto goes_on = [this, holds_up] {
        if (std::exchange(*holds_up, false) && --room_plans_ == 0) finish(kRoomKey, Ended::kWell, room_rest_);
      };
      performer_.perform(
          job, std::move(plan),
          [this, job = job, goes_on, places](const PlanEnded& ended) {
            goes_on();
            placed(job, ended);
            if (places && --placing_ == 0) tell();
          },
          goes_on);
    }
  }
  const auto turn = [this](const auto& item) {
    const auto* job = cluster().job(item.first);
    const bool was_told = decide::find_condition(job->status, decide::condition::kPlaced) != nullptr;
    return std::tuple(!job->spec.dryRun, was_told, job->status_written);
  };
  std::stable_sort(untold_.begin(), untold_.end(), [&turn](const auto& a, const auto& b) { return turn(b) < turn(a); });
  tell();
  if (look_again) queue_.add_after(kRoomKey, *look_again);
  if (room_plans_ == 0) finish(kRoomKey, Ended::kWell, room_rest_);
}

bool Reconciler::may_tell() const {
  if (placing_ == 0) return tells_ < kTellsAtOnce;
  return tells_ == 0 && executor_.uptime() >= told_at_ + kTellsApart;
}

void Reconciler::tell() {
  while (!untold_.empty() && may_tell()) {
    auto [job, plan] = std::move(untold_.back());
    untold_.pop_back();
    const auto wait = placeable_in(job);
    if (!wait) room_waits_for_.insert(job);
    if (!wait || *wait > milliseconds(0)) continue;  // something happened to it, after which it is looked at again
    queue_.claim(key_for(job));
    ++tells_;
    performer_.perform(job, std::move(plan), [this, job = job](const PlanEnded& ended) {
      --tells_;
      told_at_ = executor_.uptime();
      placed(job, ended);
      tell();
    });
  }
  if (untold_.empty() || tells_ > 0 || tells_later_) return;
  tells_later_ = true;
  executor_.brain_after(kTellsApart, [this] {
    tells_later_ = false;
    tell();
  });
}

void Reconciler::run_queues() {
  const milliseconds begun = executor_.uptime();
  auto plan = decided(kQueuesKey, [this] { return options_.decisions.plan_queues(cluster(), executor_.now()); });
  if (!plan) return finish(kQueuesKey, Ended::kFailed, {});
  const milliseconds took = executor_.uptime() - begun;
  observer_.planned(kQueuesKey, plan->reasons, num_actions(*plan), took);
  if (plan->look_again) queue_.add_after(kQueuesKey, *plan->look_again);
  const milliseconds rest = std::max(kRestAfterQueues, kRestAfterRoom * took);
  if (plan->is_empty()) return finish(kQueuesKey, Ended::kWell, rest);
  performer_.perform({}, std::move(*plan), [this, rest](const PlanEnded& ended) {
    finish(kQueuesKey, ended.ended, ended.ended == Ended::kWell ? rest : ended.at_least);
    pump();
  });
}

bool Reconciler::only_tells(const ObjectKey& key, const decide::Plan& plan) const {
  const auto* job = cluster().job(key);
  if (job == nullptr || job->status.admission || !cluster().pods_of(*job).empty()) return false;
  const auto tells = [job](const decide::Action& action) {
    const auto* write = std::get_if<decide::WriteStatus>(&action);
    const bool is_word = write != nullptr && write->status.generation == job->status.generation && !write->status.admission;
    return is_word || std::holds_alternative<decide::Event>(action);
  };
  return std::all_of(plan.phases.begin(), plan.phases.end(),
                     [&tells](const auto& phase) { return std::all_of(phase.begin(), phase.end(), tells); });
}

std::optional<milliseconds> Reconciler::placeable_in(const ObjectKey& job) const {
  const auto ready_in = queue_.ready_in(key_for(job));
  const auto refused = refused_.find(job);
  if (!ready_in || refused == refused_.end()) return ready_in;
  return std::max(*ready_in, refused->second.not_before - executor_.uptime());
}

void Reconciler::placed(const ObjectKey& job, const PlanEnded& ended) {
  if (ended.ended == Ended::kWell || cluster().job(job) == nullptr) {
    refused_.erase(job);
    cache_.forget_refusal(job);
  } else {
    Refused& refused = refused_[job];
    const milliseconds wait = std::max(options_.pace.backoff(++refused.failures), ended.at_least);
    refused.not_before = executor_.uptime() + wait;
    queue_.add_after(kRoomKey, wait);
  }
  job_done(job, {});
}

void Reconciler::run_job(const ObjectKey& job) {
  const milliseconds begun = executor_.uptime();
  auto plan = decided(key_for(job), [&] { return options_.decisions.plan_job(cluster(), job, executor_.now()); });
  if (!plan) return job_done(job, {.ended = Ended::kFailed});
  observer_.planned(key_for(job), plan->reasons, num_actions(*plan), executor_.uptime() - begun);
  targets_.set(job, cluster(), plan->agents);
  if (cluster().job(job) == nullptr) refused_.erase(job);
  if (plan->look_again) queue_.add_after(key_for(job), *plan->look_again);
  if (plan->is_empty()) return job_done(job, {});
  performer_.perform(job, std::move(*plan), [this, job](const PlanEnded& ended) { job_done(job, ended); });
}

void Reconciler::finish(const Key& key, Ended ended, milliseconds at_least) {
  observer_.reconciled(key, executor_.uptime() - queue_.cause_at(key));
  queue_.done(key, ended, at_least);
}

void Reconciler::job_done(const ObjectKey& job, const PlanEnded& ended) {
  finish(key_for(job), ended.ended, ended.at_least);
  if (room_waits_for_.erase(job) > 0) queue_.add(kRoomKey);
  pump();
}

}  // namespace trainyard::reconcile
