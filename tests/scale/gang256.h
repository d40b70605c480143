#pragma once
// The cluster that tests of large gangs share: 32 simulated nodes of 8 GPUs, the built controller, a real API server, agents that speak the
// agents' protocol and ranks that pretend to train, fifty steps a second.

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/simulated_cluster.h"

namespace trainyard {

using kube::Json;
using kube::Method;
using testing::simulated_job;
using testing::SimulatedCluster;

inline const std::string kJobs = "/apis/trainyard.dev/v1alpha1/namespaces/default/trainingjobs";
inline const std::string kPods = "/api/v1/namespaces/default/pods";

class Gang256 : public ::testing::Test {
 protected:
  /// One cluster for all tests: it takes seconds to start.
  static void SetUpTestSuite() {
    testing::enter_own_network();
    cluster_ = std::make_unique<SimulatedCluster>(SimulatedCluster::Options{});
    cluster_->start_fleet({"--step-ms=20"});
    cluster_->start_controller();
  }
  static void TearDownTestSuite() { cluster_.reset(); }
  ~Gang256() override {
    for (const auto& path : {kJobs, kPods}) request(Method::kDelete, path, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}});
    eventually(kPods, [](const Json& list) { return list.at("items").empty(); });
    const Json truths = cluster_->ask_fleet("GET", "/truths");
    for (const auto& [uid, truth] : truths.items()) {
      EXPECT_EQ(truth.at("violations"), Json::array()) << "of the job with UID " << uid;
    }
  }

  kube::Response request(Method method, const std::string& path, const Json& body) {
    const char* type = method == Method::kPatch ? "application/merge-patch+json" : "application/json";
    auto response = cluster_->api().perform({.method = method, .path = path, .body = body, .content_type = type});
    EXPECT_TRUE(response.ok()) << path << ": " << response.message;
    return response;
  }
  /// Creates the job, once the server serves the kind.
  void apply(const Json& job) {
    const auto end = std::chrono::steady_clock::now() + testing::kPatience;
    kube::Response response;
    do {
      response = cluster_->api().perform({.method = Method::kPost, .path = kJobs, .body = job});
    } while (response.is_not_found() && std::chrono::steady_clock::now() < end);
    ASSERT_TRUE(response.ok()) << response.message;
  }
  /// Asks for the object until it is as wanted; the last answer.
  Json eventually(const std::string& path, const std::function<bool(const Json&)>& wanted) {
    const auto end = std::chrono::steady_clock::now() + testing::kPatience;
    Json object = cluster_->api().perform({.path = path}).body;
    while (!wanted(object) && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the machine has other things to do
      object = cluster_->api().perform({.path = path}).body;
    }
    EXPECT_TRUE(wanted(object)) << object.value("status", object).dump(1).substr(0, 8'000);
    return object;
  }
  static std::function<bool(const Json&)> is_refused_for(const char* reason) {
    return [reason](const Json& job) {
      for (const auto& condition : job.value("/status/conditions"_json_pointer, Json::array())) {
        if (condition.at("type") == "Accepted") return condition.at("status") == "False" && condition.at("reason") == reason;
      }
      return false;
    };
  }
  /// As NVIDIA's feature discovery would, of H100.
  void label_nodes() {
    const Json labels = {{"nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"}, {"nvidia.com/gpu.memory", "81559"}};
    for (int i = 0; i < 32; ++i) {
      request(Method::kPatch, "/api/v1/nodes/fake-" + std::to_string(i), {{"metadata", {{"labels", labels}}}});
    }
  }
  /// Of a volume that every node can mount.
  void bind_claim(const std::string& name) {
    const std::string claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    const Json modes = {"ReadWriteMany"};
    request(Method::kPost, "/api/v1/persistentvolumes",
            {{"metadata", {{"name", "of-" + name}}},
             {"spec", {{"accessModes", modes}, {"capacity", {{"storage", "1Ti"}}}, {"hostPath", {{"path", "/" + name}}}}}});
    request(Method::kPost, claims,
            {{"metadata", {{"name", name}}},
             {"spec",
              {{"accessModes", modes},
               {"storageClassName", ""},
               {"volumeName", "of-" + name},
               {"resources", {{"requests", {{"storage", "1Ti"}}}}}}}});
    request(Method::kPatch, claims + "/" + name + "/status", {{"status", {{"phase", "Bound"}}}});
  }
  static std::function<bool(const Json&)> is_phase(const char* phase) {
    return [phase](const Json& job) { return job.value("/status/phase"_json_pointer, "") == phase; };
  }
  static std::function<bool(const Json&)> has_done(int steps) {
    return [steps](const Json& job) { return job.value("/status/progress/step"_json_pointer, 0) >= steps; };
  }
  Json pods() { return cluster_->api().perform({.path = kPods}).body.at("items"); }
  static std::set<std::string> uids(const Json& pods) {
    std::set<std::string> out;
    for (const auto& pod : pods) out.insert(pod.at("metadata").at("uid"));
    return out;
  }

  /// Of workers with 8 GPUs each. It writes a checkpoint only where it is asked for one, so that what it goes on from tells whether it was.
  static Json job(const std::string& name, int workers, int steps) {
    Json out = simulated_job(name, workers, 8, steps);
    out["spec"]["checkpoint"]["everySteps"] = 100'000;
    return out;
  }
  /// Of 32, 24, 16, 12 and 8 workers each rank has as many samples as any other.
  static Json elastic(const std::string& name, int workers, int least, int steps) {
    Json out = job(name, workers, steps);
    out["spec"]["workers"]["minCount"] = least;
    out["spec"]["training"]["globalBatchSize"] = 768;
    return out;
  }
  static std::function<bool(const Json&)> trains_with(int workers) {
    return [workers](const Json& job) {
      return job.value("/status/phase"_json_pointer, "") == "Running" &&
             job.value("/status/workers/ready"_json_pointer, 0) == workers &&
             job.value("/status/placement/workers"_json_pointer, 0) == workers;
    };
  }
  static std::string reason_of(const Json& job, const std::string& type) {
    for (const auto& item : job.value("/status/conditions"_json_pointer, Json::array())) {
      if (item.at("type") == type) return item.at("reason");
    }
    return "";
  }
  Json get(const std::string& job) { return cluster_->api().perform({.path = kJobs + "/" + job}).body; }
  Json truth(const Json& job) {
    return cluster_->ask_fleet("GET", "/truths").at(job.at("metadata").at("uid").get<std::string>());
  }
  int step_of(const std::string& job) { return truth(get(job)).at("step"); }
  /// Creates it, and has it removed at the end.
  void make(const std::string& collection, const Json& object) {
    request(Method::kPost, collection, object);
    made_.push_back(collection + "/" + object.at("metadata").at("name").get<std::string>());
  }
  void TearDown() override {
    // While a queue is missing that a job names, the job says so.
    request(Method::kDelete, kJobs, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}});
    for (const auto& path : made_) request(Method::kDelete, path, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}});
  }

  inline static std::unique_ptr<SimulatedCluster> cluster_;

 private:
  std::vector<std::string> made_;
};

}  // namespace trainyard
