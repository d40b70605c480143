#include "controller/decide/waiting.h"

#include <string>
#include <utility>
#include <variant>

#include <gtest/gtest.h>

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

TEST(JobsThatBeginToWait, AreToldWhyAtOnceButOfVeryManySomeInEachLook) {
  Cluster few = a_cluster_where_so_many_wait(300);
  EXPECT_EQ(tell(few, 100), 300);
  EXPECT_EQ(tell(few, 101), 0);
  Cluster many = a_cluster_where_so_many_wait(1'300);
  EXPECT_EQ(tell(many, 100), 1'000);
  EXPECT_EQ(tell(many, 101), 300);
  EXPECT_EQ(tell(many, 102), 0);
}

}  // namespace
}  // namespace trainyard::decide
