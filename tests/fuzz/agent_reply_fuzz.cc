// What an agent answers, in whose name the training code may say anything: none, or a state that is decided on without harm. Deciding twice
// gives the same, and a status comes of it that the API server takes.

#include "controller/agents/agent_reply.h"
#include "controller/decide/plan.h"
#include "tests/controller/decide/a_world.h"
#include "tests/fuzz/target.h"

using namespace trainyard;
using fuzz::expect;

std::vector<std::string> fuzz::seeds() {
  contract::State running{.version = 9, .podUid = "u", .generation = 1, .phase = contract::AgentPhase::kRunning};
  running.progress = contract::Progress{.step = 7,
                                        .steps = 500,
                                        .loss = 3.25,
                                        .tokensPerSecond = 5'210,
                                        .mfu = 0.41,
                                        .remainingSeconds = 60,
                                        .updatedAt = "2026-01-01T00:00:09Z"};
  running.checkpoint = contract::CheckpointStatus{.step = 5, .path = "/c/5", .completedAt = "2026-01-01T00:00:08Z"};
  running.notices = {{.number = 1, .warning = true, .reason = "CheckpointFailed", .message = "no space"}};
  contract::State failed{.version = 10, .podUid = "u", .generation = 1, .phase = contract::AgentPhase::kFailed};
  failed.failure = contract::Failure{
      .worker = 0, .rank = 3, .node = "n", .exitCode = 137, .signal = "SIGKILL", .reason = "RankHung", .message = "stood still"};
  failed.failure->lastLines = {"RuntimeError: CUDA error: uncorrectable ECC error encountered"};
  contract::RankActivity activity{.rank = 3, .step = 7, .mark = 40, .warm = true, .doing = "backward"};
  activity.call =
      contract::GroupCall{.group = "data", .operation = "all_reduce", .number = 12, .elements = 100, .peer = 2, .seconds = 70};
  activity.started = {{"data", 12}, {"world", 3}};
  activity.stillSeconds = 70;
  failed.activities = {activity, {.rank = 1}};
  contract::State stopped{.version = 11, .podUid = "u", .generation = 1, .phase = contract::AgentPhase::kStopped};
  stopped.checkpointed = contract::Checkpointed{.request = 1, .step = 7, .durable = true};
  std::vector<std::string> out;
  for (const auto& state : {running, failed, stopped}) out.push_back(contract::encode(state).dump());
  return out;
}

namespace {

constexpr std::size_t kLargestStatus = 100'000;  // bytes; etcd holds 1.5 MB, and all of it travels with each write

void check_status(const contract::TrainingJobStatus& status) {
  const auto json = contract::encode(status);
  const auto again = contract::decode<contract::TrainingJobStatus>(json, "", contract::UnknownFields::kRefuse);
  expect(again.problems.empty() && again.value == status, "a status is not read as it was written");
  expect(json.dump(-1, ' ', false, contract::Json::error_handler_t::replace).size() <= kLargestStatus, "a status has no end");
  for (const auto& condition : status.conditions) {
    expect(condition.message.size() <= 32'768 && condition.reason.size() <= 1'024,
           "a condition is longer than the schema allows");
  }
}

void decide_on(const decide::Cluster& cluster, contract::Time now) {
  const auto plan = decide::plan_job(cluster, {"default", "a"}, now);
  for (const auto& phase : plan.phases) {
    for (const auto& action : phase) {
      if (const auto* status = std::get_if<decide::WriteStatus>(&action)) check_status(status->status);
    }
  }
  expect(decide::plan_job(cluster, {"default", "a"}, now).phases.size() == plan.phases.size(),
         "the same is decided on otherwise");
  decide::schedule(cluster, now);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const test::World world = decide::a_running_world();
  const auto state = agents::state_in(fuzz::text_of(bytes, size));
  agents::words_of_refusal(409, std::string(fuzz::text_of(bytes, size)));
  if (!state) return 0;
  decide::Cluster cluster = world.cluster;
  decide::AgentView view = *cluster.agent(world.pod(0).uid);
  view.state = state;
  cluster.put_agent(world.pod(0).uid, view);
  for (const double later : {1.0, 30.0, 5'000.0}) decide_on(cluster, test::at(world.now + later));
  return 0;
}
