#include "controller/reconcile/job_spans.h"

#include <algorithm>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "tests/support/builders.h"

namespace trainyard::reconcile {
namespace {

using contract::Phase;
using contract::TrainingJobStatus;
using decide::Job;
using observe::Span;
using test::at;
namespace condition = decide::condition;
namespace reason = decide::reason;

const std::string kTrace = "0123456789abcdef0123456789abcdef";

/// A job of two workers, and what its controller writes in the course of its life.
class JobSpans : public ::testing::Test {
 protected:
  JobSpans() { job_.uid = "01234567-89ab-cdef-0123-456789abcdef"; }

  static void set(TrainingJobStatus& status, const char* type, bool value, double when, const std::string& why = "Because") {
    decide::set_condition(status, {type, value, why, "words of " + why}, 1, at(when));
  }
  /// What ends with this write. Mostly, all times are in the status.
  std::vector<Span> write(const TrainingJobStatus& next, double when, bool tells_time = true) {
    const TrainingJobStatus before = job_.status;
    job_.status = next;
    job_.status.phase = decide::phase_of(next);
    cluster_.put(job_);
    auto spans = ended_spans(cluster_, job_, before, job_.status, at(when));
    if (!tells_time) return spans;
    EXPECT_EQ(ended_spans(cluster_, job_, before, job_.status, at(when + 7)), spans) << "the same whoever tells it, and when";
    return spans;
  }
  void put_pod(int worker, std::int64_t generation, double created, std::optional<double> started = std::nullopt) {
    decide::Pod pod{.key = {"default", "a-" + std::to_string(worker) + "-" + std::to_string(generation)}};
    pod.uid = pod.key.name;
    pod.created = at(created);
    pod.worker = decide::WorkerPod{.job = "a", .job_uid = job_.uid, .worker = worker, .generation = generation};
    if (started) pod.worker->started_at = at(*started);
    cluster_.put(pod);
  }

  // ---- The writes of a usual life, from a status on.
  std::vector<Span> accept(double when) {
    auto next = job_.status;
    set(next, condition::kAccepted, true, when);
    set(next, condition::kAdmitted, true, when, "NoQueue");
    return write(next, when);
  }
  std::vector<Span> place(double when) {
    auto next = job_.status;
    ++next.generation;
    if (!next.startTime) next.startTime = contract::to_rfc3339(at(when));
    next.placement = contract::PlacementStatus{.workers = 2, .nodes = 2};
    set(next, condition::kPlaced, true, when, reason::kCreatingWorkers);
    if (decide::reason_of(next, condition::kProgressing) != reason::kRestarting) {
      set(next, condition::kRunning, false, when, reason::kWorkersStarting);
      set(next, condition::kProgressing, false, when, "Starting");
    }
    return write(next, when);
  }
  std::vector<Span> run(double when) {
    auto next = job_.status;
    set(next, condition::kRunning, true, when, "Training");
    set(next, condition::kProgressing, true, when, "Training");
    return write(next, when);
  }
  std::vector<Span> fail_and_restart(double when, bool in_place = false) {
    auto next = job_.status;
    ++next.uncountedRestarts;
    next.failure = contract::Failure{.failureClass = contract::FailureClass::kInfrastructure,
                                     .worker = 1,
                                     .node = "n2",
                                     .exitCode = 137,
                                     .reason = "RankCrashed",
                                     .message = "rank 1 was killed",
                                     .at = contract::to_rfc3339(at(when))};
    set(next, condition::kRunning, false, when, reason::kRestarting);
    set(next, condition::kProgressing, false, when, reason::kRestarting);
    if (in_place) {
      ++next.generation;
    } else {
      set(next, condition::kPlaced, false, when, reason::kWorkerLost);
    }
    return write(next, when);
  }
  /// Until it runs at 20 s.
  std::vector<Span> start() {
    accept(1);
    place(3);
    put_pod(0, 1, 4, 10);
    put_pod(1, 1, 5, 12);
    return run(20);
  }

  Job job_ = test::make_job("a", 2, 8);  // created at 0
  decide::Cluster cluster_;
};

/// "name from-to", with a mark where it has an error; those below another one are indented.
std::string told(const std::vector<Span>& spans) {
  std::set<std::string> ids;
  std::ostringstream out;
  const auto seconds = [](contract::Time time) { return std::chrono::duration<double>(time - at(0)).count(); };
  for (const auto& span : spans) {
    ids.insert(span.span_id);
    out << (ids.contains(span.parent_id) ? "  " : "") << span.name << " " << seconds(span.start) << "-" << seconds(span.end)
        << (span.error ? "!" : "") << "\n";
  }
  EXPECT_EQ(ids.size(), spans.size()) << "each has an id of its own";
  return out.str();
}

template <class T>
std::optional<T> attribute(const observe::Attributes& attributes, const std::string& key) {
  for (const auto& item : attributes) {
    if (item.key == key) return std::get<T>(item.value);
  }
  return std::nullopt;
}
std::string outcome(const Span& span) { return attribute<std::string>(span.attributes, "trainyard.outcome").value_or("none"); }

TEST_F(JobSpans, TellTheWayToTheFirstStepOnceItIsDone) {
  EXPECT_EQ(told(accept(1)), "");
  EXPECT_EQ(told(place(3)), "");
  put_pod(0, 1, 4, 10);
  put_pod(1, 1, 5, 12);
  const auto spans = run(20);
  EXPECT_EQ(told(spans),
            "TrainingJob start 0-20\n"
            "  accept 0-1\n"
            "  place 1-3\n"
            "  create pods 3-5\n"
            "  start workers 5-12\n"
            "  initialise 12-20\n");
  const Span& root = spans.front();
  EXPECT_EQ(root.trace_id, kTrace) << "the UID";
  EXPECT_EQ(root.parent_id, "");
  EXPECT_EQ(outcome(root), "Running");
  EXPECT_EQ(attribute<std::string>(root.attributes, "k8s.namespace.name"), "default");
  EXPECT_EQ(attribute<std::string>(root.attributes, "trainyard.job.name"), "a");
  EXPECT_EQ(attribute<std::string>(root.attributes, "trainyard.job.uid"), job_.uid);
  EXPECT_EQ(attribute<std::int64_t>(root.attributes, "trainyard.workers"), 2);
  EXPECT_EQ(attribute<std::int64_t>(root.attributes, "trainyard.gpus"), 16);
  for (const auto& span : spans) EXPECT_EQ(span.trace_id, kTrace);
  auto later = job_.status;
  later.progress = contract::Progress{};
  EXPECT_EQ(told(write(later, 25)), "") << "once";
}

TEST_F(JobSpans, OfAJobWithAQueueTellHowLongItWaitedForQuota) {
  cluster_.put(decide::Queue{.name = "q"});
  job_.spec.queue = "q";
  accept(1);
  auto next = job_.status;
  set(next, condition::kAdmitted, false, 2, reason::kQuotaExceeded);
  set(next, condition::kPlaced, false, 2, reason::kQuotaExceeded);
  EXPECT_EQ(told(write(next, 2)), "");
  set(next, condition::kAdmitted, true, 9, "WithinQuota");
  write(next, 9);
  place(15);
  put_pod(0, 1, 15, 16);
  put_pod(1, 1, 15, 16);
  const auto spans = run(17);
  EXPECT_EQ(told(spans),
            "TrainingJob start 0-17\n"
            "  accept 0-1\n"
            "  admit 1-9\n"
            "  place 9-15\n"
            "  create pods 15-15\n"
            "  start workers 15-16\n"
            "  initialise 16-17\n");
  EXPECT_EQ(attribute<std::string>(spans.front().attributes, "trainyard.queue"), "q");
}

TEST_F(JobSpans, TellWhenKubeSchedulerBoundThePodsWhereItDoes) {
  job_.spec.placement.binding = contract::Binding::kScheduler;
  accept(1);
  place(1);
  for (int worker : {0, 1}) {
    put_pod(worker, 1, 2, 9);
    auto pod = *cluster_.pod({"default", "a-" + std::to_string(worker) + "-1"});
    pod.worker->scheduled_at = at(4 + worker);
    cluster_.put(pod);
  }
  EXPECT_EQ(told(run(10)),
            "TrainingJob start 0-10\n"
            "  accept 0-1\n"
            "  place 1-1\n"
            "  create pods 1-2\n"
            "  schedule pods 2-5\n"
            "  start workers 5-9\n"
            "  initialise 9-10\n");
}

TEST_F(JobSpans, TellTheTrainingThatAFailureEndedAndTheWayBack) {
  const auto first = start();
  const auto failed = fail_and_restart(100);
  ASSERT_EQ(told(failed), "train 20-100!\n");
  const Span& train = failed.front();
  EXPECT_EQ(train.trace_id, kTrace);
  EXPECT_EQ(train.parent_id, first.front().span_id);
  EXPECT_EQ(outcome(train), "Restarting");
  ASSERT_EQ(train.events.size(), 1u);
  EXPECT_EQ(train.events[0].name, "exception");
  const auto& event = train.events[0].attributes;
  EXPECT_EQ(attribute<std::string>(event, "exception.type"), "RankCrashed");
  EXPECT_EQ(attribute<std::string>(event, "trainyard.failure.class"), "Infrastructure");
  EXPECT_EQ(attribute<std::string>(event, "k8s.node.name"), "n2");
  EXPECT_EQ(attribute<std::int64_t>(event, "process.exit.code"), 137);
  EXPECT_EQ(told(place(104)), "");
  put_pod(1, 2, 105, 108);
  const auto back = run(130);
  EXPECT_EQ(told(back),
            "TrainingJob restart 100-130\n"
            "  place 100-104\n"
            "  create pods 104-105\n"
            "  start workers 105-108\n"
            "  initialise 108-130\n");
  EXPECT_EQ(back.front().parent_id, first.front().span_id);
  EXPECT_NE(back.front().span_id, first.front().span_id);
  EXPECT_FALSE(back.front().error);
}

TEST_F(JobSpans, OfARestartInTheSamePodsHaveItsOwnPhasesAlone) {
  start();
  fail_and_restart(100, true);
  EXPECT_EQ(told(run(107)),
            "TrainingJob restart 100-107\n"
            "  initialise 100-107\n");
}

TEST_F(JobSpans, OfAStartThatFailedSayInWhichPhase) {
  accept(1);
  place(3);
  put_pod(0, 1, 4, 10);
  put_pod(1, 1, 5);  // its container never runs
  const auto spans = fail_and_restart(600);
  EXPECT_EQ(told(spans),
            "TrainingJob start 0-600!\n"
            "  accept 0-1\n"
            "  place 1-3\n"
            "  create pods 3-5\n"
            "  start workers 5-600!\n");
  EXPECT_EQ(outcome(spans.front()), "Failed");
  EXPECT_EQ(spans.back().error, "rank 1 was killed");
  EXPECT_EQ(spans.back().events, spans.front().events);
  place(610);
  put_pod(0, 2, 611, 612);
  put_pod(1, 2, 611, 613);
  const auto back = run(620);
  EXPECT_EQ(told(back),
            "TrainingJob restart 600-620\n"
            "  place 600-610\n"
            "  create pods 610-611\n"
            "  start workers 611-613\n"
            "  initialise 613-620\n");
  EXPECT_EQ(back.front().parent_id, spans.front().span_id);
}

TEST_F(JobSpans, OfAGangThatBacksOffAreToldWhenTheWaitBeginsAndNotAgainWhenItIsOver) {
  start();
  fail_and_restart(100, true);
  run(101);
  auto next = job_.status;
  set(next, condition::kRunning, false, 110, reason::kBackingOff);
  set(next, condition::kProgressing, false, 110, reason::kRestarting);
  const auto failed = write(next, 110);
  ASSERT_EQ(told(failed), "train 101-110!\n");
  EXPECT_EQ(failed.front().error, "words of BackingOff");
  EXPECT_EQ(told(fail_and_restart(140, true)), "");
  job_.status.failure->at = contract::to_rfc3339(at(110));
  EXPECT_EQ(told(run(150)),
            "TrainingJob restart 110-150\n"
            "  initialise 110-150\n");
}

TEST_F(JobSpans, OfAStartThatFailsBeforeAWaitAreToldOnce) {
  accept(1);
  place(3);
  auto next = job_.status;
  set(next, condition::kRunning, false, 60, reason::kBackingOff);
  set(next, condition::kProgressing, false, 60, reason::kRestarting);
  const auto spans = write(next, 60, false);
  EXPECT_EQ(told(spans).substr(0, 24), "TrainingJob start 0-60!\n");
  EXPECT_EQ(told(fail_and_restart(90)), "");
}

TEST_F(JobSpans, TellHowAJobEnds) {
  start();
  auto next = job_.status;
  next.completionTime = contract::to_rfc3339(at(500));
  next.progress = contract::Progress{};
  next.progress->step = 10;
  set(next, condition::kRunning, false, 500, "Finished");
  set(next, condition::kProgressing, false, 500, "Finished");
  set(next, condition::kComplete, true, 500);
  const auto spans = write(next, 500);
  EXPECT_EQ(told(spans), "train 20-500\n");
  EXPECT_EQ(outcome(spans.front()), "Finished");
  EXPECT_EQ(attribute<std::int64_t>(spans.front().attributes, "trainyard.step"), 10);
}

TEST_F(JobSpans, OfAJobThatFailsBeforeItsFirstStepHaveTheRootAllTheSame) {
  accept(1);
  place(3);
  put_pod(0, 1, 3, 4);
  put_pod(1, 1, 3, 4);
  auto next = job_.status;
  next.completionTime = contract::to_rfc3339(at(30));
  set(next, condition::kRunning, false, 30, "Finished");
  set(next, condition::kProgressing, false, 30, "Finished");
  set(next, condition::kFailed, true, 30, "CorpusMissing");
  const auto spans = write(next, 30);
  EXPECT_EQ(told(spans),
            "TrainingJob start 0-30!\n"
            "  accept 0-1\n"
            "  place 1-3\n"
            "  create pods 3-3\n"
            "  start workers 3-4\n"
            "  initialise 4-30!\n");
  EXPECT_EQ(spans.front().error, "words of CorpusMissing");
}

TEST_F(JobSpans, OfASuspensionAndTheResumeAreATrainingAndAnotherStart) {
  start();
  auto next = job_.status;
  set(next, condition::kRunning, false, 40, reason::kSuspending);
  EXPECT_EQ(told(write(next, 40)), "train 20-40\n") << "asked to stop";
  set(next, condition::kSuspended, true, 45);
  for (const char* type : {condition::kPlaced, condition::kRunning, condition::kProgressing})
    set(next, type, false, 45, "Suspended");
  EXPECT_EQ(told(write(next, 45)), "");
  next.startTime.reset();
  set(next, condition::kSuspended, false, 300, "Resumed");
  for (const char* type : {condition::kPlaced, condition::kRunning, condition::kProgressing})
    set(next, type, false, 300, "Resumed");
  EXPECT_EQ(told(write(next, 300)), "");
  place(310);
  put_pod(0, 2, 310, 311);
  put_pod(1, 2, 310, 311);
  EXPECT_EQ(told(run(312)),
            "TrainingJob restart 300-312\n"
            "  place 300-310\n"
            "  create pods 310-310\n"
            "  start workers 310-311\n"
            "  initialise 311-312\n");
}

TEST_F(JobSpans, OfAJobThatWasMadeSuspendedBeginWithItsResume) {
  TrainingJobStatus next;
  set(next, condition::kSuspended, true, 0);
  for (const char* type : {condition::kPlaced, condition::kRunning, condition::kProgressing})
    set(next, type, false, 0, "Suspended");
  EXPECT_EQ(told(write(next, 0)), "");
  set(next, condition::kSuspended, false, 300, "Resumed");
  write(next, 300);
  accept(301);
  place(302);
  put_pod(0, 1, 302, 303);
  put_pod(1, 1, 302, 303);
  EXPECT_EQ(told(run(304)),
            "TrainingJob start 300-304\n"
            "  accept 300-301\n"
            "  place 301-302\n"
            "  create pods 302-302\n"
            "  start workers 302-303\n"
            "  initialise 303-304\n");
}

TEST_F(JobSpans, OfAGangThatMakesRoomBeforeItRanEndWithThat) {
  accept(1);
  place(3);
  auto next = job_.status;
  set(next, condition::kRunning, false, 8, reason::kPreempting);
  EXPECT_EQ(told(write(next, 8)), "");
  next.startTime.reset();
  ++next.preemptions;
  for (const char* type : {condition::kPlaced, condition::kRunning, condition::kProgressing}) {
    set(next, type, false, 10, reason::kPreempted);
  }
  const auto spans = write(next, 10);
  EXPECT_EQ(told(spans),
            "TrainingJob start 0-10\n"
            "  accept 0-1\n"
            "  place 1-3\n"
            "  create pods 3-10\n");
  EXPECT_EQ(outcome(spans.front()), "Preempted");
}

TEST_F(JobSpans, OfAGangThatStoppedAreNoSecondRootThoughItFailsBeforeItComesBack) {
  const std::string root = start().front().span_id;
  const auto running = job_.status;
  for (const bool preempted : {true, false}) {
    auto stopped = running;
    stopped.startTime.reset();
    if (preempted) ++stopped.preemptions;
    for (const char* type : {condition::kPlaced, condition::kRunning, condition::kProgressing}) {
      set(stopped, type, false, 40, preempted ? reason::kPreempted : reason::kDrained);
    }
    job_.status = running;
    EXPECT_EQ(told(write(stopped, 40)), "train 20-40\n");
    set(stopped, condition::kFailed, true, 90, "DeadlineExceeded");
    const auto spans = write(stopped, 90);
    EXPECT_EQ(told(spans),
              "TrainingJob restart 40-90!\n"
              "  place 40-90!\n");
    EXPECT_EQ(spans.front().parent_id, root);
  }
}

TEST_F(JobSpans, ContinueTheTraceThatTheJobWasGiven) {
  const std::string trace(32, 'd'), span(16, 'e');
  job_.traceparent = "00-" + trace + "-" + span + "-01";
  const auto spans = start();
  ASSERT_EQ(spans.size(), 6u);
  EXPECT_EQ(spans.front().parent_id, span);
  for (const auto& item : spans) EXPECT_EQ(item.trace_id, trace);
  EXPECT_EQ(fail_and_restart(100).front().parent_id, spans.front().span_id);
}

TEST_F(JobSpans, AreNotToldWhereTheTraceThatTheJobWasGivenIsNotSampled) {
  job_.traceparent = "00-" + std::string(32, 'd') + "-" + std::string(16, 'e') + "-00";
  EXPECT_EQ(told(start()), "");
  EXPECT_EQ(told(fail_and_restart(100)), "");
}

TEST_F(JobSpans, AreATraceOfTheirOwnWhereTheGivenOneIsNone) {
  job_.traceparent = "nonsense";
  EXPECT_EQ(start().front().trace_id, kTrace);
}

TEST_F(JobSpans, OfClocksThatDifferNeitherOverlapNorRunBackwards) {
  job_.created = at(2);  // by the API server's clock, which goes ahead
  accept(1);
  place(3);
  put_pod(0, 1, 2, 30);
  put_pod(1, 1, 8, 4);
  EXPECT_EQ(told(run(20)),
            "TrainingJob start 2-20\n"
            "  place 2-3\n"
            "  create pods 3-8\n"
            "  start workers 8-20\n"
            "  initialise 20-20\n");
}

TEST_F(JobSpans, HaveATraceIdAlsoWhereTheUidIsNoUuid) {
  job_.uid = "uid-a";
  const std::string id = start().front().trace_id;
  EXPECT_EQ(id.size(), 32u);
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::reconcile
