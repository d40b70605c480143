#include "controller/decide/classify.h"

#include <array>
#include <iostream>
#include <map>

#include <gtest/gtest.h>

#include "controller/cache/decode.h"
#include "controller/decide/worker_view.h"
#include "tests/crds/yaml.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureClass;

/// A gang of one worker on one node, in which what the fault says has happened.
struct Scene {
  Cluster cluster = test::ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build();
  Job job;

  explicit Scene(const Json& fault) {
    const int gpus = fault.value("gpus", 8);
    job = fault.contains("failure") ? test::make_job("a", 1, gpus) : test::make_custom_job("a", 1, gpus);
    job.status.generation = 1;
    cluster.put(job);
    Pod pod = *cache::decode_pod(pod_of(fault));
    if (fault.contains("failure")) {
      auto failure = contract::decode<Failure>(fault.at("failure"));
      EXPECT_TRUE(failure.problems.empty()) << contract::to_text(failure.problems);
      pod.worker->last_word = contract::State{.podUid = "u",
                                              .generation = 1,
                                              .phase = contract::AgentPhase::kFailed,
                                              .failure = failure.value,
                                              .secondary = failure.value.reason == "PeerLost"};
    }
    cluster.put(std::move(pod));
    Node node = *cluster.node("node-0");
    node.trouble = fault.value("node", "");
    cluster.put(std::move(node));
  }

  /// As the API server would show it.
  Json pod_of(const Json& fault) const {
    Json container = {{"name", "worker"}};
    if (fault.value("memoryLimit", false)) container["resources"]["limits"]["memory"] = "8Gi";
    Json pod = {
        {"metadata",
         {{"name", "a-0-1"},
          {"namespace", "default"},
          {"uid", "u"},
          {"labels", {{"trainyard.dev/job-name", "a"}, {"trainyard.dev/worker-index", "0"}, {"trainyard.dev/generation", "1"}}},
          {"ownerReferences",
           {{{"apiVersion", contract::kApiVersion}, {"kind", contract::kKind}, {"uid", job.uid}, {"controller", true}}}}}},
        {"spec", {{"nodeName", "node-0"}, {"containers", {container}}}},
        {"status", {{"phase", "Failed"}}}};
    if (fault.contains("pod")) pod["status"].update(fault.at("pod"));
    const int code = fault.value("exitCode", 1);
    if (code < 0) return pod;
    const Json terminated = {
        {"exitCode", code}, {"reason", fault.value("container", "Error")}, {"message", fault.value("log", "")}};
    pod["status"]["containerStatuses"] = {{{"name", "worker"}, {"state", {{"terminated", terminated}}}}};
    return pod;
  }

  Worker worker() const { return view_gang(cluster, job, test::at(1)).workers.at(0); }
};

struct Measured {
  int right = 0, all = 0;
  std::string wrong;
  std::array<std::array<int, 4>, 4> judged{};  // by label, then by verdict

  void add(const std::string& name, FailureClass label, FailureClass verdict) {
    ++all;
    ++judged[static_cast<std::size_t>(label)][static_cast<std::size_t>(verdict)];
    if (label == verdict) {
      ++right;
    } else {
      wrong += "  " + name + ": is " + std::string(contract::name_of(label)) + ", was judged " +
               std::string(contract::name_of(verdict)) + "\n";
    }
  }
  /// Jobs that would have failed though a restart may help: the error that costs most.
  int wrongly_failed() const {
    constexpr auto kUser = static_cast<std::size_t>(FailureClass::kUser);
    int count = 0;
    for (std::size_t label = 0; label < judged.size(); ++label) count += label == kUser ? 0 : judged[label][kUser];
    return count;
  }
  double accuracy() const { return static_cast<double>(right) / all; }
  std::string text() const {
    std::string out = std::to_string(right) + " of " + std::to_string(all) + "\n";
    for (std::size_t label = 0; label < judged.size(); ++label) {
      out += "  " + std::string(contract::name_of(static_cast<FailureClass>(label))) + ":";
      for (std::size_t verdict = 0; verdict < judged.size(); ++verdict) {
        if (judged[label][verdict] > 0) {
          out += " " + std::to_string(judged[label][verdict]) + " " +
                 std::string(contract::name_of(static_cast<FailureClass>(verdict)));
        }
      }
      out += "\n";
    }
    return out + wrong;
  }
};

TEST(Classification, IsRightForNineteenOfTwentyLabelledFaultsAndFailsNoJobWrongly) {
  std::map<std::string, Measured> measured;
  const Json table = crd_test::load("tests/controller/decide/faults.yaml");
  for (const auto& fault : table.at("faults")) {
    const std::string name = fault.at("name");
    SCOPED_TRACE(name);
    const auto label = contract::enum_from<FailureClass>(fault.at("class").get<std::string>());
    ASSERT_TRUE(label);
    const Worker worker = Scene(fault).worker();
    ASSERT_TRUE(worker.failure);
    const char* kind = fault.contains("met") ? "met" : fault.value("heldOut", false) ? "held out" : "seen";
    for (const char* set : {"all", kind}) {
      measured[set].add(name, *label, worker.failure->failureClass);
    }
  }
  for (const auto& [set, result] : measured) std::cout << set << ": " << result.text();
  EXPECT_GE(measured["all"].all, 60);
  EXPECT_GE(3 * (measured["held out"].all + measured["met"].all), measured["all"].all);
  EXPECT_GE(measured["all"].accuracy(), 0.95);
  EXPECT_EQ(measured["all"].wrongly_failed(), 0);
  EXPECT_EQ(measured["seen"].wrong, "") << "for these the rules were made";
}

}  // namespace
}  // namespace trainyard::decide
