#pragma once
// Carries plans out.

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controller/cache/cache.h"
#include "controller/decide/plan.h"
#include "controller/kube/kube_api.h"
#include "controller/reconcile/dry_run_answers.h"
#include "controller/reconcile/event_teller.h"
#include "controller/reconcile/executor.h"
#include "controller/reconcile/held_words.h"
#include "controller/reconcile/observer.h"
#include "controller/reconcile/requests.h"
#include "controller/reconcile/work_queue.h"

namespace trainyard::reconcile {

/// How a plan ended: the worst of its actions, and how long the server asked to wait.
struct PlanEnded {
  Ended ended = Ended::kWell;
  std::chrono::milliseconds at_least{0};
};

/// The phases of a plan one after the other; a phase's actions in parallel, kParallel at a time; nothing more is begun after a
/// failure. Words give way to pods that are being made: see HeldWords. Each answer goes into the cache as an assumed write before the plan counts as done. A pod of which no answer says whether it was
/// made is looked for until the server says so, and takes up its room meanwhile. Events go their own way: see EventTeller. Of jobs whose pods
/// differ in names alone, as when many are created at once, one has its dry run, and the others take its answer for a while where that is a
/// yes. Should the API server mean it otherwise, it says so when their pods are made. Lives on the brain.
class Performer {
 public:
  static constexpr std::size_t kParallel = 16;
  /// Of all plans together, requests whose bodies are made: enough for all hands. Where a thousand jobs have something to write, the others
  /// are an action each, which is small.
  static constexpr std::size_t kAtOnce = 128;
  /// Of these so many statuses, and so many dry runs: a thousand jobs have them to write at the same moment, and each connection more, with
  /// its hand, keeps 150 KB (docs/design/0024-resting-jobs.md).
  static constexpr std::size_t kAlikeAtOnce = 16;
  /// While so many are sent, events give way.
  static constexpr std::size_t kMany = 8;
  using Done = std::function<void(PlanEnded)>;
  using PodsBegin = std::function<void()>;

  /// `may_write` is asked on the hand right before each write: false, and nothing is sent.
  Performer(Executor& executor, kube::KubeApi& api, cache::Cache& cache, Writer writer, std::function<bool()> may_write,
            Observer& observer);

  /// `done` is called once, not before this returns, unless stop() came first; `pods_begin` before it, where the plan makes pods and came
  /// so far: what is before them is written, and they count in the cache as pods that are there.
  void perform(const decide::ObjectKey& job, decide::Plan plan, Done done, PodsBegin pods_begin = nullptr);
  /// What no plan tells.
  void tell(const decide::Event& event) { events_.tell(event); }
  /// Begins no more requests, nor those that wait for others to end; those that the hands have end, and what they did is assumed as ever.
  void stop();
  /// Requests under way, those for events apart.
  std::size_t num_requests() const { return num_requests_; }
  /// Of those the ones that are with the hands or the server; at most kAtOnce.
  std::size_t num_sent() const { return num_sent_; }

 private:
  struct Answer {
    kube::Response response;
    std::optional<kube::Response> read{};  // what is there, where the response does not say: see read_after()
    std::optional<decide::TemplateCheck>
        check{};  // of a dry run: what the server said to another like it, in the place of the response
  };
  using Then = std::function<void(const Answer&)>;
  using ActionPointer = std::shared_ptr<const decide::Action>;  // a pod's is large, and passed on from thread to thread
  struct Run;
  using RunPointer = std::shared_ptr<Run>;
  using Waiting = std::vector<std::pair<ActionPointer, Then>>;
  void advance(const RunPointer& run);
  void expect_pods(const RunPointer& run);
  void give_up(const RunPointer& run);
  void begin(const RunPointer& run, const ActionPointer& action);
  /// An action under way; `before`: what a job's status was when it went out.
  struct Sent {
    ActionPointer action;
    std::shared_ptr<const contract::TrainingJobStatus> before;
  };
  /// Takes the answer; `looks`: so many times the pod was looked for since.
  void end(const RunPointer& run, const Sent& sent, const Answer& answer, int looks);
  void look_for_pod(const RunPointer& run, const Sent& sent, const Answer& answer, int looks);
  void answered(const RunPointer& run, const Sent& sent, const Answer& answer);
  void assume(const Sent& sent, const kube::Response& response);
  void refuse(const RunPointer& run, const decide::Action& action, const std::string& why);
  enum class What { kPerform, kLook };  // a look reads what is there, as read_after() says
  /// Performs on a hand, once fewer than kAtOnce are under way, and kAlikeAtOnce like it, and answers on the brain.
  void request(const ActionPointer& action, Then then, What what = What::kPerform);
  void send_waiting();
  void send(const ActionPointer& action, Then then, What what);
  void look(const ActionPointer& action, Then then);
  bool is_first_dry_run(const decide::Action& action) const;
  /// As request(), of a DryRunPod; or takes the answer to one that is like it.
  void ask(const ActionPointer& action, const Then& then);
  /// The answer is in: who waits for it has it, or asks for itself.
  void share(const std::string& like, const decide::DryRunPod& about, const Answer& answer);
  static Answer answer_of(const decide::TemplateCheck& check);
  static Answer never_asked(const std::exception& error);
  void take_check(const decide::DryRunPod& ask, const Answer& answer);

  Executor& executor_;
  kube::KubeApi& api_;
  cache::Cache& cache_;
  const Writer writer_;
  const std::function<bool()> may_write_;
  Observer& observer_;
  EventTeller events_;
  DryRunAnswers answers_;
  std::map<std::string, Waiting> questions_;  // dry runs under way by likeness(), and who waits for their answers
  std::int64_t term_ = 0;                     // grows with stop(): who began before it does not go on
  struct ToSend {
    ActionPointer action;
    Then then;
    What what;
  };
  /// Those of which there are limits of their own, and all others.
  enum Line : std::size_t { kStatuses, kDryRuns, kOthers, kNumLines };
  static Line line_of(const decide::Action& action);
  /// From which the next one is sent; null: from none, as yet.
  std::deque<ToSend>* line_to_send();
  void sent(Line line);
  void came_back(Line line);
  std::size_t num_to_send() const;

  std::array<std::deque<ToSend>, kNumLines> to_send_;
  std::array<std::size_t, kNumLines> num_sent_by_line_{};
  HeldWords words_{executor_};
  std::size_t num_requests_ = 0;  // to be sent, or under way; held back, too
  std::size_t num_sent_ = 0;      // of request()
};

}  // namespace trainyard::reconcile
