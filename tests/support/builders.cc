#include "tests/support/builders.h"

#include "controller/decide/json_lookup.h"
#include "crds/contract/names.h"

namespace trainyard::test {

using decide::member;
using decide::text_of;

contract::Time at(double seconds) {
  return *contract::parse_rfc3339("2026-01-01T00:00:00Z") + std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6));
}

ClusterBuilder& ClusterBuilder::racks(int number) { return racks_ = number, *this; }
ClusterBuilder& ClusterBuilder::nodes_per_rack(int number) { return nodes_per_rack_ = number, *this; }
ClusterBuilder& ClusterBuilder::racks_per_block(int number) { return racks_per_block_ = number, *this; }
ClusterBuilder& ClusterBuilder::gpus_per_node(int number) { return gpus_ = number, *this; }
ClusterBuilder& ClusterBuilder::cpus_per_node(int number) { return cpus_ = number, *this; }
ClusterBuilder& ClusterBuilder::gpu_model(const std::string& product, int mebibytes) {
  gpu_product_ = product;
  gpu_mebibytes_ = mebibytes;
  return *this;
}
ClusterBuilder& ClusterBuilder::use(const std::string& node, int gpus, const std::string& job) {
  taken_.push_back({node, gpus, job});
  return *this;
}
ClusterBuilder& ClusterBuilder::change(const std::string& node, std::function<void(decide::Node&)> edit) {
  edits_.emplace_back(node, std::move(edit));
  return *this;
}

decide::Cluster ClusterBuilder::build() const {
  decide::Cluster cluster;
  auto& levels = cluster.settings.topology_levels;
  if (racks_per_block_ > 0) levels.push_back({"block", "topology.test/block"});
  levels.push_back({"rack", "topology.test/rack"});
  cluster.settings.default_image = "trainyard.test/worker:dev";
  cluster.settings.controller_namespace = "trainyard-system";
  for (int i = 0; i < racks_ * nodes_per_rack_; ++i) {
    decide::Node node{.name = "node-" + std::to_string(i), .ready = true, .ready_since = at(-1000)};
    const int rack = i / nodes_per_rack_;
    node.labels["topology.test/rack"] = "rack-" + std::to_string(rack);
    if (racks_per_block_ > 0) node.labels["topology.test/block"] = "block-" + std::to_string(rack / racks_per_block_);
    node.allocatable = {{"cpu", cpus_ * 1000}, {"memory", std::int64_t{64} << 30}, {"pods", 110}};
    if (gpus_ > 0) node.allocatable.set(kGpu, gpus_);
    if (!gpu_product_.empty()) {
      node.labels[std::string(kGpu) + ".product"] = gpu_product_;
      node.labels[std::string(kGpu) + ".memory"] = std::to_string(gpu_mebibytes_);
    }
    for (const auto& [name, edit] : edits_) {
      if (name == node.name) edit(node);
    }
    cluster.put(std::move(node));
  }
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    const std::string name = "taken-" + std::to_string(i);
    decide::Pod pod{.key = {"default", name}, .uid = "uid-" + name, .node = taken_[i].node, .phase = decide::PodPhase::kRunning};
    pod.requests = {{kGpu, taken_[i].gpus}, {"pods", 1}};
    if (!taken_[i].job.empty()) pod.worker = decide::WorkerPod{.job = taken_[i].job, .job_uid = "uid-" + taken_[i].job};
    cluster.put(std::move(pod));
  }
  return cluster;
}

decide::Job make_job(const std::string& name, int workers, int gpus) {
  decide::Job job{.key = {"default", name}, .uid = "uid-" + name, .resource_version = "1", .generation = 1, .created = at(0)};
  auto& spec = job.spec;
  spec.workers.count = workers;
  spec.workers.gpusPerWorker = gpus;
  spec.workers.templ = contract::Json::object();
  spec.model.size = contract::ModelSize{.layers = 2, .hiddenSize = 32, .heads = 4, .feedForwardSize = 64, .vocabularySize = 256};
  spec.data.train = {contract::Source{.path = "/data/train"}};
  spec.data.sequenceLength = 64;
  spec.training.steps = 100;
  spec.training.optimizer.learningRate = 1e-3;
  spec.training.globalBatchSize = contract::world_size(spec);
  spec.checkpoint = contract::Checkpoint{.path = "/checkpoints", .everySteps = 10};
  return job;
}

decide::Job make_custom_job(const std::string& name, int workers, int gpus) {
  decide::Job job{.key = {"default", name}, .uid = "uid-" + name, .resource_version = "1", .generation = 1, .created = at(0)};
  job.spec.engine = contract::Engine::kCustom;
  job.spec.workers.count = workers;
  job.spec.workers.gpusPerWorker = gpus;
  job.spec.workers.templ = {{"spec", {{"containers", {{{"name", "worker"}, {"image", "example.com/trainer:1"}}}}}}};
  return job;
}

decide::Pod pod_from(const contract::Json& body, const std::string& uid, contract::Time created) {
  const auto& metadata = member(body, "metadata");
  const auto& labels = member(metadata, "labels");
  const auto& spec = member(body, "spec");
  std::vector<contract::Problem> problems;
  decide::Pod pod{.key = {text_of(metadata, "namespace"), text_of(metadata, "name")},
                  .uid = uid,
                  .node = text_of(spec, "nodeName"),
                  .requests = decide::pod_requests(spec, problems),
                  .created = created};
  pod.worker = decide::WorkerPod{
      .job = text_of(labels, std::string(contract::kJobLabel).c_str()),
      .job_uid = text_of(member(metadata, "ownerReferences").at(0), "uid"),
      .worker = -1,
      .generation = std::stoll(text_of(labels, std::string(contract::kGenerationLabel).c_str())),
      .template_hash = text_of(member(metadata, "annotations"), std::string(contract::kTemplateHashAnnotation).c_str()),
      .agent_port = 0,
      .pod_group = text_of(member(spec, "schedulingGroup"), "podGroupName"),
      .tolerations = decide::read_node_rules(spec).tolerations};
  if (const std::string spare = text_of(labels, std::string(contract::kSpareLabel).c_str()); !spare.empty()) {
    pod.worker->spare = std::stoi(spare);
  } else {
    pod.worker->worker = std::stoi(text_of(labels, std::string(contract::kWorkerLabel).c_str()));
  }
  for (const auto& container : member(spec, "containers")) {
    for (const auto& port : member(container, "ports")) {
      if (text_of(port, "name") == contract::kPortName) pod.worker->agent_port = port.at("containerPort").get<std::uint16_t>();
    }
  }
  return pod;
}

}  // namespace trainyard::test
