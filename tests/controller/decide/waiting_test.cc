#include "controller/decide/waiting.h"

#include <string>
#include <utility>
#include <variant>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/pod_template.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

/// In a full cluster, accepted, and told nothing yet.
Cluster a_cluster_where_so_many_wait(int jobs) {
  Cluster cluster = test::ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).use("node-0", 8).build();
  for (int i = 0; i < jobs; ++i) {
    Job job = test::make_job("waits-" + std::to_string(i), 1, 8);
    set_condition(job.status, {condition::kAccepted, true, "Accepted", ""}, 1, test::at(0));
    const Json pod = worker_pod(job, cluster.settings, {.worker = 0, .generation = 1, .node = {}});
    cluster.put_template_check(job.uid, template_hash(job.spec, cluster.settings),
                               {.accepted = true, .needs = read_pod_needs(pod.at("spec"))});
    cluster.put(std::move(job));
  }
  return cluster;
}

/// How many were told; the statuses are as they are written.
int tell(Cluster& cluster, double seconds) {
  int told = 0;
  for (const auto& [key, plan] : schedule(cluster, test::at(seconds))) {
    for (const auto& phase : plan.phases) {
      for (const auto& action : phase) {
        const auto* write = std::get_if<WriteStatus>(&action);
        if (write == nullptr) continue;
        Job job = *cluster.job(key);
        job.status = write->status;
        job.status_written = test::at(seconds);
        cluster.put(std::move(job));
        ++told;
      }
    }
    EXPECT_TRUE(!plan.is_empty() || plan.look_again) << key.name << " is forgotten";
  }
  return told;
}

TEST(JobsThatBeginToWait, AreToldWhyAtOnceButOfManySomeInEachLook) {
  Cluster few = a_cluster_where_so_many_wait(50);
  EXPECT_EQ(tell(few, 100), 50);
  EXPECT_EQ(tell(few, 101), 0);
  Cluster many = a_cluster_where_so_many_wait(150);
  EXPECT_EQ(tell(many, 100), 64);
  EXPECT_EQ(tell(many, 100), 64) << "the next look comes once these are told";
  EXPECT_EQ(tell(many, 100), 22);
  EXPECT_EQ(tell(many, 101), 0);
}

TEST(JobsThatBeginToWait, DoNotWaitForWordsToManyThatWaitOn) {
  Cluster cluster = a_cluster_where_so_many_wait(300);
  for (int look = 0; look < 5; ++look) tell(cluster, 100);
  Job job = *cluster.job({"default", "waits-0"});
  job.key.name = job.uid = "zz-new";
  job.created = test::at(9'000);                                                                // behind all others
  job.status.conditions.erase(job.status.conditions.begin() + 1, job.status.conditions.end());  // accepted
  const Json pod = worker_pod(job, cluster.settings, {.worker = 0, .generation = 1, .node = {}});
  cluster.put_template_check(job.uid, template_hash(job.spec, cluster.settings),
                             {.accepted = true, .needs = read_pod_needs(pod.at("spec"))});
  cluster.put(std::move(job));
  tell(cluster, 10'000);  // when it is the turn of all others too
  EXPECT_EQ(reason_of(cluster.job({"default", "zz-new"})->status, condition::kPlaced), reason::kUnschedulable);
}

}  // namespace
}  // namespace trainyard::decide
