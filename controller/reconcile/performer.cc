#include "controller/reconcile/performer.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>
#include <vector>

#include "controller/cache/decode.h"
#include "controller/decide/json_lookup.h"
#include "crds/contract/names.h"

namespace trainyard::reconcile {
namespace {

using decide::Action;
using decide::CreatePod;
using std::chrono::milliseconds;

/// Of a pod that is to be made, and one that is there.
bool have_same_owner(const contract::Json& a, const contract::Json& b) {
  const auto wanted = cache::decode_pod(a, "none yet");
  const auto found = cache::decode_pod(b);
  return found && found->worker && wanted && wanted->worker && found->worker->job_uid == wanted->worker->job_uid;
}

constexpr int kCreated = 201;
constexpr int kNeverAsked = 400;  // as the server answers what it can't read
constexpr milliseconds kLookAgain{250}, kLookAgainLimit{5'000};
constexpr int kRefusedLooks = 10;  // half a minute

/// A pod was asked for, and neither the answer nor a look says whether it is there. A server that will not have it looked for says no more.
bool is_in_doubt(const std::optional<kube::Response>& look, int looks) {
  return look && !look->ok() && !look->is_not_found() && (look->is_temporary() || looks < kRefusedLooks);
}

}  // namespace

struct Performer::Run {
  decide::ObjectKey job;
  std::string job_uid;
  std::deque<std::deque<Action>> phases;
  std::size_t under_way = 0;
  PlanEnded ended;
  Done done;
  PodsBegin pods_begin;
  bool expects_pods = false;
  bool makes_pods = false;
  std::int64_t term = 0;
};

/// Of one that was asked like it.
Performer::Answer Performer::answer_of(const decide::TemplateCheck& check) {
  Answer out;
  out.response.status = kCreated;
  out.check = check;
  return out;
}

Performer::Performer(Executor& executor, kube::KubeApi& api, cache::Cache& cache, Writer writer, std::function<bool()> may_write,
                     Observer& observer)
    : executor_(executor),
      api_(api),
      cache_(cache),
      writer_(std::move(writer)),
      may_write_(std::move(may_write)),
      observer_(observer),
      events_(executor, api, writer_, may_write_, observer,
              [this](const decide::Event& event) { cache_.notice_told(event.pod_uid, event.notice); }) {}

void Performer::perform(const decide::ObjectKey& job, decide::Plan plan, Done done, PodsBegin pods_begin) {
  const auto run = std::make_shared<Run>();
  run->job = job;
  if (const auto* known = cache_.cluster().job(job)) run->job_uid = known->uid;
  run->done = std::move(done);
  run->pods_begin = std::move(pods_begin);
  run->term = term_;
  run->makes_pods = makes_pods(plan);
  if (run->makes_pods) words_.pods_begin();
  for (auto& phase : plan.phases) {
    run->phases.emplace_back(std::make_move_iterator(phase.begin()), std::make_move_iterator(phase.end()));
  }
  executor_.brain([this, run] { advance(run); });
}

void Performer::stop() {
  ++term_;
  questions_.clear();
  answers_.clear();
  cache_.give_up_pods();
  num_requests_ -= num_to_send() + words_.size();
  for (auto& line : to_send_) line.clear();
  words_.clear();
  events_.stop();
}

void Performer::advance(const RunPointer& run) {
  if (run->term != term_) return;
  if (run->ended.ended != Ended::kWell) give_up(run);
  while (!run->phases.empty() && run->phases.front().empty() && run->under_way == 0) run->phases.pop_front();
  while (!run->phases.empty() && !run->phases.front().empty() && run->under_way < kParallel) {
    expect_pods(run);
    const auto action = std::make_shared<const Action>(std::move(run->phases.front().front()));
    run->phases.front().pop_front();
    if (const auto* event = std::get_if<decide::Event>(action.get())) {
      events_.tell(*event);
    } else {
      begin(run, action);
    }
    // The next phase may begin at once where this one held only events.
    while (!run->phases.empty() && run->phases.front().empty() && run->under_way == 0) run->phases.pop_front();
  }
  if (run->under_way > 0 || !run->phases.empty() || !run->done) return;
  if (run->makes_pods) words_.pods_are_made();
  std::exchange(run->done, nullptr)(run->ended);
}

/// All of the plan, also those of later phases: spares come after the workers.
void Performer::expect_pods(const RunPointer& run) {
  const auto& phase = run->phases.front();
  if (run->expects_pods || !std::holds_alternative<CreatePod>(phase.front())) return;
  run->expects_pods = true;
  for (const auto& one : run->phases) {
    for (const auto& action : one) {
      if (const auto* create = std::get_if<CreatePod>(&action)) cache_.expect_pod(create->body, executor_.now());
    }
  }
  if (run->pods_begin) run->pods_begin();
}

/// Begins nothing more of it.
void Performer::give_up(const RunPointer& run) {
  for (const auto& phase : run->phases) {
    for (const auto& action : phase) {
      if (const auto* create = std::get_if<CreatePod>(&action)) cache_.give_up_pod(create->key);
    }
  }
  run->phases.clear();
}

void Performer::begin(const RunPointer& run, const ActionPointer& action) {
  ++run->under_way;
  Sent sent{.action = action, .before = {}};
  if (const auto* write = std::get_if<decide::WriteStatus>(action.get())) {
    const auto* job = cache_.cluster().job(write->key);
    if (job != nullptr && job->uid == write->uid) sent.before = std::make_shared<const contract::TrainingJobStatus>(job->status);
  }
  const bool yields = !run->makes_pods && words_.holds() && is_word(*action, sent.before.get());
  const Then then = [this, run, sent = std::move(sent)](const Answer& answer) { end(run, sent, answer, 0); };
  try {
    if (is_first_dry_run(*action)) {
      ask(action, then);
    } else if (yields) {
      ++num_requests_;
      words_.hold([this, action, then] {
        --num_requests_;
        request(action, then);
      });
    } else {
      request(action, then);
    }
  } catch (const std::exception& error) {
    executor_.brain([then, answer = never_asked(error)] { then(answer); });
  }
}

/// As if the server had refused it: whatever of this job brings a bug to light, the others' controller does not end for it.
Performer::Answer Performer::never_asked(const std::exception& error) {
  Answer answer;
  answer.response.status = kNeverAsked;
  answer.response.message = std::string("it can't be asked for, which is a bug of this controller: ") + error.what();
  return answer;
}

/// Who has an answer and asks again wants a new one.
bool Performer::is_first_dry_run(const Action& action) const {
  const auto* dry_run = std::get_if<decide::DryRunPod>(&action);
  return dry_run != nullptr && cache_.cluster().template_check(dry_run->job_uid, dry_run->template_hash) == nullptr;
}

void Performer::end(const RunPointer& run, const Sent& sent, const Answer& answer, int looks) {
  const auto* create = std::get_if<CreatePod>(sent.action.get());
  // Who stopped reads everything before it begins anew.
  if (create != nullptr && run->term == term_ && is_in_doubt(answer.read, looks)) return look_for_pod(run, sent, answer, looks);
  --run->under_way;
  try {
    answered(run, sent, answer);
  } catch (const std::exception& error) {
    run->ended.ended = Ended::kFailed;
    observer_.warned("a bug: an answer of the API server can't be taken",
                     {{"request", to_text(*sent.action)}, {"error", error.what()}});
  }
  if (create != nullptr) cache_.give_up_pod(create->key);  // unless it is there
  advance(run);
}

void Performer::look_for_pod(const RunPointer& run, const Sent& sent, const Answer& answer, int looks) {
  const milliseconds wait = std::min(kLookAgainLimit, kLookAgain * (1 << std::min(looks, 8)));
  executor_.brain_after(wait, [this, run, sent, answer, looks] {
    if (run->term != term_) return;
    Then then = [this, run, sent, answer = answer, looks](const Answer& found) mutable {
      answer.read = found.read;
      end(run, sent, answer, looks + 1);
    };
    request(sent.action, std::move(then), What::kLook);
  });
}

void Performer::ask(const ActionPointer& action, const Then& then) {
  const auto& about = std::get<decide::DryRunPod>(*action);
  const std::string like = likeness(about);
  if (const auto* known = answers_.find(like, executor_.uptime())) {
    return executor_.brain([then, answer = answer_of(*known)] { then(answer); });
  }
  if (const auto asked = questions_.find(like); asked != questions_.end()) {
    asked->second.emplace_back(action, then);
    return;
  }
  request(action, [this, like, action, then, term = term_](const Answer& answer) {
    then(answer);
    if (term == term_) share(like, std::get<decide::DryRunPod>(*action), answer);
  });
  questions_.try_emplace(like);
}

void Performer::share(const std::string& like, const decide::DryRunPod& about, const Answer& answer) {
  const auto asked = questions_.find(like);
  const Waiting others = std::move(asked->second);
  questions_.erase(asked);
  Answer shared = answer;
  if (answer.response.ok()) {
    try {
      shared = answer_of(template_check(about, answer.response, executor_.now()));
      answers_.put(like, *shared.check, executor_.uptime());
    } catch (const std::exception& error) {  // each of them takes the answer as it is, and meets the same by himself
      observer_.warned("a bug: an answer of the API server can't be shared",
                       {{"request", to_text(decide::Action(about))}, {"error", error.what()}});
    }
  }
  const bool is_for_all = answer.response.ok() || answer.response.is_temporary();  // who asks again waits first
  for (const auto& [other, then] : others) {
    if (is_for_all) {
      then(shared);
    } else {
      request(other, then);
    }
  }
}

void Performer::request(const ActionPointer& action, Then then, What what) {
  ++num_requests_;
  to_send_[line_of(*action)].push_back({action, std::move(then), what});
  send_waiting();
}

Performer::Line Performer::line_of(const Action& action) {
  if (std::holds_alternative<decide::WriteStatus>(action)) return kStatuses;
  return std::holds_alternative<decide::DryRunPod>(action) ? kDryRuns : kOthers;
}

std::size_t Performer::num_to_send() const {
  std::size_t out = 0;
  for (const auto& line : to_send_) out += line.size();
  return out;
}

std::deque<Performer::ToSend>* Performer::line_to_send() {
  if (num_sent_ >= kAtOnce) return nullptr;
  for (const Line line : {kStatuses, kDryRuns, kOthers}) {
    const bool may = line == kOthers || num_sent_by_line_[line] < kAlikeAtOnce;
    if (may && !to_send_[line].empty()) return &to_send_[line];
  }
  return nullptr;
}

void Performer::sent(Line line) {
  ++num_sent_;
  ++num_sent_by_line_[line];
  events_.give_way(num_sent_ >= kMany);
}

void Performer::came_back(Line line) {
  --num_requests_;
  --num_sent_;
  --num_sent_by_line_[line];
  events_.give_way(num_sent_ >= kMany);
}

void Performer::send_waiting() {
  while (auto* line = line_to_send()) {
    auto [action, then, what] = std::move(line->front());
    line->pop_front();
    try {
      send(action, then, what);
    } catch (const std::exception& error) {
      executor_.brain([this, then = std::move(then), answer = never_asked(error)] {
        --num_requests_;
        then(answer);
      });
    }
  }
}

void Performer::send(const ActionPointer& pointer, Then then, What what) {
  if (what == What::kLook) return look(pointer, std::move(then));
  const Action& action = *pointer;
  auto request = request_for(action, writer_, executor_.now());
  request.patient = false;  // each try is to ask may_write_ first, and this controller's queue waits without a hand
  executor_.hand([this, started = executor_.uptime(), line = line_of(action), kind = kind_of(action), read = read_after(action),
                  then = std::move(then), request = std::move(request)] {
    Answer answer;
    if (may_write_()) {
      answer.response = api_.perform(request);
      if (read && read->is_due(answer.response)) answer.read = api_.perform(read->request);
    } else {
      answer.response.message = "not sent: this controller's lease is over";
      answer.response.not_sent = true;
    }
    executor_.brain([this, started, line, kind, then, answer = std::move(answer)] {
      came_back(line);
      observer_.requested(kind, answer.response.status, executor_.uptime() - started);
      then(answer);
      send_waiting();
    });
  });
  sent(line_of(action));
  if (const auto* status = std::get_if<decide::WriteStatus>(&action)) cache_.expect_status(status->key, status->status);
}

void Performer::look(const ActionPointer& action, Then then) {
  executor_.hand([this, line = line_of(*action), then = std::move(then), request = read_after(*action)->request] {
    Answer answer;
    answer.read = api_.perform(request);
    executor_.brain([this, line, then, answer = std::move(answer)] {
      came_back(line);
      then(answer);
      send_waiting();
    });
  });
  sent(line_of(*action));
}

void Performer::answered(const RunPointer& run, const Sent& sent, const Answer& answer) {
  const Action& action = *sent.action;
  const kube::Response& response = answer.response;
  if (answer.read && answer.read->ok()) {
    const auto* create = std::get_if<CreatePod>(&action);
    if (create == nullptr) {
      cache_.assume_job(answer.read->body);
    } else if (have_same_owner(create->body, answer.read->body)) {
      return assume(sent, *answer.read);
    } else {
      return refuse(run, action, "a pod of that name exists that is not this job's; delete it, or wait until it is gone");
    }
  }
  switch (result_of(action, response)) {
    case Result::kDone:
      if (const auto* ask = std::get_if<decide::DryRunPod>(&action)) return take_check(*ask, answer);
      return assume(sent, response);
    case Result::kConflict:
      if (run->ended.ended == Ended::kWell) run->ended.ended = Ended::kConflict;
      return;
    case Result::kTemporary:
      run->ended.ended = Ended::kFailed;
      if (response.retry_after) run->ended.at_least = std::max<milliseconds>(run->ended.at_least, *response.retry_after);
      observer_.warned("request failed",
                       {{"request", to_text(action)}, {"status", response.status}, {"error", response.message}});
      return;
    case Result::kRefused: return refuse(run, action, response.message);
  }
}

void Performer::refuse(const RunPointer& run, const Action& action, const std::string& why) {
  run->ended.ended = Ended::kFailed;
  observer_.warned("request refused", {{"request", to_text(action)}, {"error", why}});
  const bool creates = std::holds_alternative<CreatePod>(action) || std::holds_alternative<decide::CreateSecret>(action) ||
                       std::holds_alternative<decide::CreateService>(action) ||
                       std::holds_alternative<decide::CreateWorkload>(action) ||
                       std::holds_alternative<decide::CreatePodGroup>(action);
  if (creates) cache_.put_refusal(run->job, run->job_uid, to_text(action), why);
  if (run->term == term_ && !run->job.name.empty())
    events_.tell(refusal_event(run->job, run->job_uid, to_text(action) + ": " + why));
}

void Performer::take_check(const decide::DryRunPod& ask, const Answer& answer) {
  const contract::Time now = executor_.now();
  decide::TemplateCheck found = answer.check ? *answer.check : template_check(ask, answer.response, now);
  found.at = now;
  // What admission adds, an answer tells no more once a quota is used up.
  const auto* known = cache_.cluster().template_check(ask.job_uid, ask.template_hash);
  if (found.over_quota && known != nullptr && known->accepted) {
    found.needs = known->needs;
    found.beyond_direct = known->beyond_direct;
  }
  cache_.put_template_check(ask.job, ask.job_uid, ask.template_hash, std::move(found));
}

void Performer::assume(const Sent& sent, const kube::Response& response) {
  const Action& action = *sent.action;
  const contract::Time now = executor_.now();
  if (const auto* status = std::get_if<decide::WriteStatus>(&action); status != nullptr) {
    const auto* job = cache_.cluster().job(status->key);
    if (job != nullptr && job->uid == status->uid && sent.before) {
      observer_.wrote(cache_.cluster(), *job, *sent.before, status->status, now);
    }
    cache_.assume_status(response.body, now);
  } else if (std::holds_alternative<CreatePod>(action)) {
    cache_.assume_pod(response.body);
  } else if (const auto* pod = std::get_if<decide::DeletePod>(&action)) {
    // A pod with a grace period is answered as it dies; without one it is gone.
    const bool dying = response.ok() && !decide::member(decide::member(response.body, "metadata"), "deletionTimestamp").is_null();
    if (dying) {
      cache_.assume_pod(response.body);
    } else {
      cache_.assume_pod_gone(pod->key, pod->uid);
    }
  } else if (std::holds_alternative<decide::WriteQueueStatus>(action)) {
    cache_.assume_queue_status(response.body, now);
  } else if (const auto* job = std::get_if<decide::DeleteJob>(&action)) {
    // Where somebody's finalizer holds it, the answer is the job as it dies.
    if (response.ok() && decide::member(response.body, "kind") == contract::kKind) {
      cache_.assume_status(response.body, now);
    } else {
      cache_.assume_job_gone(job->key, job->uid);
    }
  }
}

}  // namespace trainyard::reconcile
