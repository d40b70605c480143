// 256 GPUs and more work than room: gangs become smaller and larger, make room for others at a checkpoint, and take their quota back.

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/scale/gang256.h"

namespace trainyard {
namespace {

const std::string kQueues = "/apis/trainyard.dev/v1alpha1/trainingqueues";
const std::string kClasses = "/apis/scheduling.k8s.io/v1/priorityclasses";

TEST_F(Gang256, TakesWhatThereIsIsScaledAtACheckpointAndShrinksRatherThanWaitForALostNode) {
  apply(job("first", 16, 100'000));
  eventually(kJobs + "/first", trains_with(16));
  apply(elastic("elastic", 24, 8, 500));
  const Json smaller = eventually(kJobs + "/elastic", trains_with(16));
  EXPECT_EQ(smaller.at("spec").at("workers").at("count"), 24);
  // Room comes: without being asked it would wait five minutes, since others may want it, and says so.
  request(Method::kPatch, kJobs + "/first", {{"spec", {{"suspend", true}}}});
  const Json told = eventually(
      kJobs + "/elastic", [](const Json& job) { return job.value("/status/resize/reason"_json_pointer, "") == "RoomFound"; });
  EXPECT_EQ(told.at("status").at("resize").at("workers"), 24);

  const int before = step_of("elastic");
  const auto scaled = request(Method::kPatch, kJobs + "/elastic/scale", {{"spec", {{"replicas", 32}}}});
  EXPECT_EQ(scaled.body.at("spec").at("replicas"), 32) << "as kubectl scale does";
  EXPECT_EQ(scaled.body.at("status").at("replicas"), 16);
  const Json larger = eventually(kJobs + "/elastic", trains_with(32));
  EXPECT_GE(truth(larger).at("checkpoint"), before) << "it was asked for a checkpoint, and no step is done twice";
  EXPECT_GT(truth(larger).at("checkpoint"), 0);
  EXPECT_EQ(larger.at("status").at("generation"), 2);
  EXPECT_EQ(larger.at("status").value("restarts", 0) + larger.at("status").value("uncountedRestarts", 0), 0);

  const std::string lost = pods().at(5).at("spec").at("nodeName");
  Json node = cluster_->api().perform({.path = "/api/v1/nodes/" + lost}).body;
  request(Method::kDelete, "/api/v1/nodes/" + lost, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}});
  const Json shrunk = eventually(kJobs + "/elastic", trains_with(24));
  EXPECT_EQ(shrunk.at("status").at("failure").at("reason"), "NodeGone");
  EXPECT_EQ(shrunk.at("status").at("uncountedRestarts"), 1);
  std::set<std::string> nodes;
  for (const auto& pod : pods()) {
    if (!pod.at("metadata").contains("deletionTimestamp")) nodes.insert(pod.at("spec").at("nodeName"));
  }
  EXPECT_EQ(nodes.size(), 24u);
  EXPECT_FALSE(nodes.contains(lost));
  const Json done = eventually(kJobs + "/elastic", is_phase("Succeeded"));
  EXPECT_EQ(done.at("status").value("restarts", 0), 0);
  EXPECT_EQ(truth(done).at("generationsRun"), 3);
  EXPECT_EQ(truth(done).at("step"), 500);
  for (const char* part : {"resourceVersion", "uid", "creationTimestamp", "managedFields"}) node["metadata"].erase(part);
  request(Method::kPost, "/api/v1/nodes", node);
}

TEST_F(Gang256, MakesRoomForOneOfHigherPriorityAtACheckpointComesBackAndEnds) {
  make(kClasses, {{"metadata", {{"name", "urgent"}}}, {"value", 1'000}, {"preemptionPolicy", "PreemptLowerPriority"}});
  // Nobody is stopped for room that there will be within a minute anyway, or before his checkpoint has to be there.
  Json patient = job("patient", 32, 5'000);
  patient["spec"]["lifecycle"]["checkpointGraceSeconds"] = 30;
  apply(patient);
  eventually(kJobs + "/patient", has_done(1));
  const int before = step_of("patient");
  Json urgent = job("urgent", 20, 60);
  urgent["spec"]["priorityClassName"] = "urgent";
  apply(urgent);
  const Json waits =
      eventually(kJobs + "/patient", [](const Json& job) { return job.at("status").value("preemptions", 0) == 1; });
  const int kept = waits.at("status").at("checkpoint").at("step");
  EXPECT_GE(kept, before) << "it was asked for a checkpoint first";
  EXPECT_LT(kept, 5'000) << "there was nothing to preempt any more";
  eventually(kJobs + "/urgent", trains_with(20));
  EXPECT_EQ(get("patient").at("status").at("phase"), "Pending");
  EXPECT_FALSE(get("patient").at("status").contains("placement")) << "it is whole or not at all: 12 nodes are free";
  eventually(kJobs + "/urgent", is_phase("Succeeded"));
  cluster_->ask_fleet("POST", "/pace?stepMs=1");
  const Json done = eventually(kJobs + "/patient", is_phase("Succeeded"));
  cluster_->ask_fleet("POST", "/pace");
  EXPECT_EQ(done.at("status").value("restarts", 0) + done.at("status").value("uncountedRestarts", 0), 0);
  EXPECT_EQ(done.at("status").at("preemptions"), 1);
  EXPECT_EQ(truth(done).at("generationsRun"), 2);
  EXPECT_EQ(truth(done).at("step"), 5'000);
}

TEST_F(Gang256, StopsForAJobOf128GpusThoseThatLoseTheLeastGpuSecondsAndTheyComeBackInTheirOrder) {
  make(kClasses, {{"metadata", {{"name", "urgent"}}}, {"value", 1'000}, {"preemptionPolicy", "PreemptLowerPriority"}});
  // All of them hold their nodes for minutes. The one in the middle, a gang as large as the one that comes, has no checkpoint at all; the other
  // two, the oldest and the youngest, have one every fifth of a second.
  const auto low = [this](const std::string& name, int workers, int checkpoint_every) {
    Json out = job(name, workers, 20'000);
    out["spec"]["checkpoint"]["everySteps"] = checkpoint_every;
    out["spec"]["lifecycle"]["checkpointGraceSeconds"] = 30;
    apply(out);
    eventually(kJobs + "/" + name, has_done(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(1'100));  // ages are whole seconds
  };
  low("oldest", 8, 10);
  low("dear", 16, 100'000);
  low("youngest", 8, 10);
  eventually(kJobs + "/dear", has_done(100));
  const std::map<std::string, int> before{{"oldest", step_of("oldest")}, {"youngest", step_of("youngest")}};
  const Json dear = get("dear");
  Json urgent = job("urgent", 16, 1'000);  // for 20 s: a place in the line may be told 5 s late
  urgent["spec"]["priorityClassName"] = "urgent";
  apply(urgent);
  eventually(kJobs + "/urgent", trains_with(16));
  for (const auto& [name, step] : before) {
    const Json waits = get(name);
    EXPECT_EQ(waits.at("status").value("preemptions", 0), 1) << name;
    EXPECT_EQ(reason_of(waits, "Running"), "Preempted") << name;
    EXPECT_GE(waits.at("status").at("checkpoint").at("step"), step) << name << " was asked for a checkpoint first";
  }
  EXPECT_EQ(get("dear").at("status").value("preemptions", 0), 0) << "it would have lost all that it did";
  apply(job("latecomer", 8, 20'000));
  int position = 0;
  for (const char* name : {"oldest", "youngest", "latecomer"}) {
    ++position;
    eventually(kJobs + "/" + name,
               [position](const Json& waits) { return waits.value("/status/queue/position"_json_pointer, 0) == position; });
  }
  eventually(kJobs + "/urgent", is_phase("Succeeded"));
  for (const auto& [name, step] : before) {
    const Json again = eventually(kJobs + "/" + name, trains_with(8));
    EXPECT_EQ(again.at("status").value("restarts", 0) + again.at("status").value("uncountedRestarts", 0), 0) << name;
    EXPECT_EQ(truth(again).at("generationsRun"), 2) << name;
    EXPECT_GE(truth(again).at("checkpoint"), step) << name << " goes on from there";
  }
  EXPECT_EQ(get("latecomer").at("status").at("phase"), "Pending");
  EXPECT_EQ(get("dear").at("status").at("generation"), dear.at("status").at("generation")) << "nobody touched it";
  EXPECT_EQ(truth(get("dear")).at("generationsRun"), 1);
}

TEST_F(Gang256, BorrowsWhatAnotherQueueLeavesAndMakesRoomAtACheckpointWhenThatTakesItBack) {
  const auto quota = [](int gpus) {
    return Json::array({{{"resources", Json::array({{{"name", "nvidia.com/gpu"}, {"nominal", gpus}}})}}});
  };
  const auto named = [](const char* name, const Json& spec) {
    return Json{
        {"apiVersion", "trainyard.dev/v1alpha1"}, {"kind", "TrainingQueue"}, {"metadata", {{"name", name}}}, {"spec", spec}};
  };
  make(kQueues, named("all", Json::object()));
  make(kQueues, named("research", {{"parent", "all"}, {"flavors", quota(96)}}));
  make(kQueues, named("products", {{"parent", "all"}, {"flavors", quota(160)}}));
  const auto job_in = [](const char* queue, const char* name, int workers, int steps) {
    Json out = job(name, workers, steps);
    out["spec"]["queue"] = queue;
    return out;
  };
  apply(job_in("research", "own", 12, 500));
  eventually(kJobs + "/own", has_done(1));
  apply(job_in("research", "borrows", 20, 400));
  const Json borrows = eventually(kJobs + "/borrows", has_done(1));
  EXPECT_EQ(borrows.at("status").at("admission").at("queue"), "research");
  EXPECT_EQ(borrows.at("status").at("admission").at("resources").at("nvidia.com/gpu"), "160");
  const auto usage = eventually(kQueues + "/research", [](const Json& queue) {
    const auto& at = "/status/usage/0/resources/0/borrowed"_json_pointer;
    return queue.value(at, "") == "160";
  });
  EXPECT_EQ(usage.at("status").at("summary"), "nvidia.com/gpu 256/96");
  EXPECT_EQ(usage.at("status").at("running"), 2);

  const int before = step_of("borrows");
  apply(job_in("products", "claims", 20, 60));
  eventually(kJobs + "/claims", trains_with(20));
  const Json waits = get("borrows");
  EXPECT_EQ(waits.at("status").at("preemptions"), 1);
  EXPECT_GE(waits.at("status").at("checkpoint").at("step"), before) << "it was asked for a checkpoint first";
  EXPECT_EQ(get("own").at("status").value("preemptions", 0), 0) << "what is within its own quota stays";
  eventually(kJobs + "/borrows", [](const Json& job) { return reason_of(job, "Placed") == "QuotaExceeded"; });
  for (const char* name : {"claims", "borrows", "own"}) {
    const Json done = eventually(kJobs + "/" + name, is_phase("Succeeded"));
    EXPECT_EQ(done.at("status").value("restarts", 0) + done.at("status").value("uncountedRestarts", 0), 0) << name;
  }
  EXPECT_EQ(truth(get("borrows")).at("generationsRun"), 2);
  EXPECT_EQ(truth(get("own")).at("generationsRun"), 1);
  eventually(kQueues + "/research",
             [](const Json& queue) { return queue.value("/status/summary"_json_pointer, "") == "nvidia.com/gpu 0/96"; });
}

}  // namespace
}  // namespace trainyard
