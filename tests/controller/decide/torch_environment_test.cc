#include "controller/decide/torch_environment.h"

#include <map>

#include <gtest/gtest.h>

#include "controller/decide/json_lookup.h"
#include "crds/contract/names.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using Variables = std::map<std::string, std::string>;

Variables variables(const Json& env) {
  Variables out;
  for (const auto& item : env) out[item.at("name")] = item.at("value");
  return out;
}

TEST(TorchEnvironment, CountsProcessesAsTorchrunDoesAndNodesAsItsOptionsDo) {
  const Job job = test::make_custom_job("a", 4, 8);
  const auto env = variables(torch_environment(job, {.worker = 3, .generation = 5, .node = {}}));
  EXPECT_EQ(env, (Variables{{"MASTER_ADDR", "a-0-5.tj-a-uid-a"},
                            {"MASTER_PORT", "29500"},
                            {"WORLD_SIZE", "32"},
                            {"RANK", "24"},
                            {"NODE_RANK", "3"},
                            {"LOCAL_WORLD_SIZE", "8"},
                            {"PET_NNODES", "4"},
                            {"PET_NPROC_PER_NODE", "8"},
                            {"PET_NODE_RANK", "3"},
                            {"PET_MASTER_ADDR", "a-0-5.tj-a-uid-a"},
                            {"PET_MASTER_PORT", "29500"}}));
}

TEST(TorchEnvironment, OfTheOnlyWorkerMeetsAtItsOwnHost) {
  const Job one = test::make_custom_job("a", 1, 8), four = test::make_custom_job("a", 4, 8);
  for (const char* name : {"MASTER_ADDR", "PET_MASTER_ADDR"}) {
    EXPECT_EQ(variables(torch_environment(one, {.worker = 0, .generation = 5, .node = {}})).at(name), "localhost");
    const WorkerPlace smaller{.worker = 0, .generation = 5, .node = {}, .num_workers = 1};
    EXPECT_EQ(variables(torch_environment(four, smaller)).at(name), "localhost");
    const WorkerPlace of_more{.worker = 0, .generation = 5, .node = {}, .num_workers = 2};
    EXPECT_EQ(variables(torch_environment(one, of_more)).at(name), "a-0-5.tj-a-uid-a") << "workers.count was edited meanwhile";
  }
}

TEST(TorchEnvironment, GivesAProcessAWorkerItsIndexAsItsRank) {
  Job job = test::make_custom_job("a", 4, 8);
  job.spec.workers.processesPerWorker = 1;
  job.spec.workers.threadsPerProcess = 6;
  const auto env = variables(torch_environment(job, {.worker = 3, .generation = 1, .node = {}}));
  EXPECT_EQ(env.at("RANK"), "3");
  EXPECT_EQ(env.at("WORLD_SIZE"), "4");
  EXPECT_EQ(env.at("LOCAL_WORLD_SIZE"), "1");
  EXPECT_EQ(env.at("OMP_NUM_THREADS"), "6");
}

TEST(WorkersService, HasANameThatAServiceMayHave) {
  Job job = test::make_custom_job("7b-" + std::string(contract::kMaxJobNameLength - 3, 'x'));
  job.uid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
  const std::string name = workers_service(job).name;
  EXPECT_LE(name.size(), 63u);
  EXPECT_TRUE(name.front() >= 'a' && name.front() <= 'z') << name << ": RFC 1035";
  EXPECT_TRUE(name.ends_with("-0a1b2c3d")) << "a deleted job of the same name has another";
}

}  // namespace
}  // namespace trainyard::decide
