#include "controller/decide/memory_fit.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "controller/decide/claims.h"
#include "controller/decide/devices.h"
#include "controller/decide/node_filter.h"
#include "controller/decide/packed.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/queues.h"
#include "crds/contract/validate.h"
#include "worker/plan/cost.h"
#include "worker/plan/nearest_layout.h"
#include "worker/plan/reckonable.h"
#include "worker/plan/staging_cost.h"
#include "worker/plan/worker_tensors.h"

namespace trainyard::decide {
namespace {

using contract::TrainingJobSpec;

/// Nothing of a job of whose ranks nothing is known.
std::optional<plan::RankBytes> foretold(const TrainingJobSpec& spec) {
  const bool is_known =
      spec.engine == contract::Engine::kTrainyard && contract::validate(spec).empty() && plan::is_reckonable(spec);
  if (!is_known) return std::nullopt;
  return plan::most_bytes_per_rank(spec);
}

/// The fields of a spec that the bytes of a rank's GPU follow from (worker/plan/cost.h).
auto layout_fields(auto& spec) {
  auto& workers = spec.workers;
  auto& training = spec.training;
  return std::tie(spec.engine, workers.count, workers.gpusPerWorker, workers.gpuResourceName, workers.processesPerWorker,
                  spec.parallelism, spec.model, spec.data.sequenceLength, training.globalBatchSize, training.loss,
                  training.precision, training.activationCheckpointing, training.reduction);
}

/// A spec with these fields, whose others are valid with any of them.
TrainingJobSpec layout_of(const TrainingJobSpec& spec) {
  TrainingJobSpec out;
  layout_fields(out) = layout_fields(spec);
  out.data.train = {contract::Source{.path = "/", .format = contract::SourceFormat::kUInt32}};
  out.training.steps = 1;
  out.training.optimizer = {.learningRate = 1, .beta1 = 0, .beta2 = 0};
  return out;
}

/// The flavors of the job's queue, or of the nearest above it that has any; empty: any node will do.
std::vector<Labels> flavors_of(const Cluster& cluster, const Job& job) {
  std::vector<Labels> out;
  std::string name = queue_name(cluster, job);
  for (std::size_t i = 0; i < cluster.queues().size() && out.empty(); ++i) {  // parents may be a ring
    const auto found = cluster.queues().find(name);
    if (found == cluster.queues().end()) break;
    for (const auto& flavor : found->second.flavors) out.push_back(flavor.labels);
    name = found->second.parent;
  }
  return out;
}

/// The nodes that the job's pods may be on, however full or ill they are now.
class Eligible {
 public:
  Eligible(const Cluster& cluster, const Job& job, const PodNeeds& needs)
      : cluster_(cluster), rules_(needs.rules), flavors_(flavors_of(cluster, job)) {
    rules_.volume_terms = volume_terms(cluster, job, needs);
  }

  /// Calls `visit` for each until it says false.
  template <class Visit>
  void each(const Visit& visit) const {
    for (const auto& [name, node] : cluster_.nodes()) {
      if (is_eligible(node) && !visit(node)) return;
    }
  }

 private:
  bool is_eligible(const Node& node) const {
    const auto is_of = [&node](const Labels& labels) { return has_labels(node, labels); };
    if (!flavors_.empty() && std::none_of(flavors_.begin(), flavors_.end(), is_of)) return false;
    const auto found = obstacle(node, rules_);
    return !found || !is_lasting(*found);
  }

  const Cluster& cluster_;
  NodeRules rules_;
  std::vector<Labels> flavors_;
};

/// The memory of the eligible nodes' largest GPUs. Nothing where there is none, some node does not tell, or one has as much as `enough`.
std::optional<std::int64_t> largest_that_is_too_small(const Eligible& nodes, const std::string& resource, std::int64_t enough) {
  std::int64_t largest = 0;
  bool is_short = true;
  nodes.each([&](const Node& node) {
    const auto memory = device_memory(node, resource);
    const bool is_large = memory && *memory >= enough;  // also while its device plugin is away
    if (!is_large && node.allocatable[resource] == 0) return true;
    is_short = memory && !is_large;
    if (is_short) largest = std::max(largest, *memory);
    return is_short;
  });
  return is_short && largest > 0 ? std::optional(largest) : std::nullopt;
}

/// What a worker's pod has of its node's memory for certain.
std::int64_t host_room(const Job& job, const PodNeeds& needs) {
  return std::min(needs.requests["memory"], memory_limit(job.spec).value_or(needs.requests["memory"]));
}

std::string parts_text(const plan::RankBytes& bytes) {
  std::string out;
  for (const auto& [name, amount] : {std::pair{"parameters", bytes.parameters},
                                     {"masters", bytes.master},
                                     {"gradients", bytes.gradients},
                                     {"optimizer", bytes.optimizer},
                                     {"activations", bytes.activations}}) {
    if (amount > 0) out += std::string(out.empty() ? "" : ", ") + name + " " + bytes_text(amount);
  }
  return out;
}

bool has_gpus(const TrainingJobSpec& spec) { return spec.workers.gpusPerWorker > 0; }

std::string ranks_text(const TrainingJobSpec& spec, const char* of_one, const char* of_all) {
  const auto ranks = contract::processes_per_worker(spec);
  return ranks == 1 ? std::string("the rank of a worker ") + of_one
                    : "the " + std::to_string(ranks) + " ranks of a worker " + of_all;
}

std::string device_shortage(const Cluster& cluster, const Job& job, const PodNeeds& needs, const plan::RankBytes& bytes) {
  if (!cluster.settings.sees_cluster) return "";
  const std::int64_t need = bytes.total() + kBesideTensors;
  const auto& resource = job.spec.workers.gpuResourceName;
  const auto largest = largest_that_is_too_small(Eligible(cluster, job, needs), resource, need);
  if (!largest) return "";
  // Names no node: which one of equals comes first may change, and nothing else with it.
  return "a rank needs at least " + bytes_text(need) + " of its GPU's memory (" + parts_text(bytes) + ", and " +
         bytes_text(kBesideTensors) + " for CUDA and NCCL); the largest GPUs of the nodes that it may run on have " +
         bytes_text(*largest) + " by the label " + resource + ".memory";
}

std::string offloaded_text(const TrainingJobSpec& spec, std::int64_t bytes) {
  return ranks_text(spec, "keeps ", "keep ") + bytes_text(bytes) + " in the host's memory, of what is offloaded, pinned" +
         (spec.checkpoint ? ", and to write checkpoints from" : "") + ", and spec.workers.template ";
}

/// More than its request a pod may find; more than its limit never.
std::string host_shortage(const Job& job, const plan::RankBytes& bytes) {
  const std::int64_t need = plan::host_bytes_per_worker(job.spec, bytes);
  const auto limit = memory_limit(job.spec);
  if (!limit || need <= *limit) return "";
  return offloaded_text(job.spec, need) + "limits them to " + bytes_text(*limit) + " (resources.limits.memory)";
}

/// What processes without GPUs take beside their tensors, all of a worker.
std::int64_t beside_tensors_on_cpu(const TrainingJobSpec& spec) {
  return contract::processes_per_worker(spec) * (kBesideTensorsOnCpu + plan::staging_bytes(spec));
}

std::string tensors_text(const TrainingJobSpec& spec, std::int64_t tensors, const plan::RankBytes& of_rank) {
  const bool is_one = contract::processes_per_worker(spec) == 1;
  return ranks_text(spec, "has tensors of ", "have tensors of ") + bytes_text(tensors) +
         (is_one ? " (" : " at one moment (of a rank at the most ") + parts_text(of_rank) + ")";
}

/// Nothing where it is up to the node: a limit of 0 is none.
std::optional<std::int64_t> limit_without_gpus(const TrainingJobSpec& spec) {
  const auto limit = memory_limit(spec);
  return limit && *limit > 0 ? limit : std::nullopt;
}

/// More than its limit a pod never gets; what its processes take beside the tensors is left out, so that none is refused that would have run.
std::string shortage_without_gpus(const Job& job, const plan::RankBytes& of_rank) {
  const auto limit = limit_without_gpus(job.spec);
  if (!limit) return "";
  const std::int64_t tensors = plan::tensor_bytes_per_worker(job.spec);
  if (tensors <= *limit) return "";
  return tensors_text(job.spec, tensors, of_rank) + ", and spec.workers.template limits them to " + bytes_text(*limit) +
         " (resources.limits.memory)";
}

std::string doubt_without_gpus(const Job& job, const plan::RankBytes& of_rank) {
  const auto limit = limit_without_gpus(job.spec);
  if (!limit) return "";
  const std::int64_t tensors = plan::tensor_bytes_per_worker(job.spec), beside = beside_tensors_on_cpu(job.spec);
  if (tensors + beside <= *limit) return "";
  return tensors_text(job.spec, tensors, of_rank) + ", and take up to " + bytes_text(beside) + " more" +
         (job.spec.checkpoint ? ", also to write checkpoints from" : "") + "; spec.workers.template limits them to " +
         bytes_text(*limit) + " (resources.limits.memory): they may be killed";
}

/// The spec without what is of no matter to the memory of its ranks, or to whether another layout is valid.
TrainingJobSpec what_layouts_follow_from(const TrainingJobSpec& spec) {
  TrainingJobSpec out;
  out.engine = spec.engine;
  out.workers = spec.workers;
  out.workers.templ = Json();
  out.parallelism = spec.parallelism;
  out.model = spec.model;
  out.data.sequenceLength = spec.data.sequenceLength;
  out.data.curriculum = spec.data.curriculum;
  if (spec.checkpoint) out.checkpoint.emplace();
  out.training = spec.training;
  out.training.seed = {};
  out.training.learningRateSchedule = {};
  out.training.optimizer.learningRate = {};
  out.evaluation = spec.evaluation;
  return out;
}

/// As a quantity, in whole GiB.
std::string memory_quantity(std::int64_t bytes) {
  constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;
  return std::to_string((bytes + kGibibyte - 1) / kGibibyte) + "Gi";
}

}  // namespace

std::string bytes_text(std::int64_t bytes) {
  const bool is_large = bytes >= std::int64_t{1} << 30;
  const int shift = is_large ? 30 : 20;
  constexpr std::int64_t kTenths = 10;
  const std::int64_t tenths = (bytes >> shift) * kTenths + (((bytes & ((std::int64_t{1} << shift) - 1)) * kTenths) >> shift);
  std::string out = std::to_string(tenths / kTenths);
  if (tenths % kTenths > 0) out += "." + std::to_string(tenths % kTenths);
  return out + (is_large ? " GiB" : " MiB");
}

std::optional<contract::RankMemory> memory_status(const TrainingJobSpec& spec) {
  const auto bytes = foretold(spec);
  if (!bytes) return std::nullopt;
  return contract::RankMemory{.parameters = bytes->parameters,
                              .master = bytes->master,
                              .gradients = bytes->gradients,
                              .optimizer = bytes->optimizer,
                              .activations = bytes->activations,
                              .total = bytes->total(),
                              .host = bytes->host,
                              .device = std::nullopt};
}

std::optional<DeviceNeed> device_need(const TrainingJobSpec& spec) {
  if (!has_gpus(spec)) return std::nullopt;
  const auto bytes = foretold(layout_of(spec));
  if (!bytes) return std::nullopt;
  return DeviceNeed{.resource = spec.workers.gpuResourceName, .bytes = bytes->total() + kBesideTensors};
}

std::string layout_key(const TrainingJobSpec& spec) {
  Packer packer;
  std::apply([&packer](const auto&... fields) { (packer.add(fields), ...); }, layout_fields(spec));
  return packer.take();
}

std::string memory_shortage(const Cluster& cluster, const Job& job, const PodNeeds& needs) {
  const auto bytes = foretold(job.spec);
  if (!bytes) return "";
  if (!has_gpus(job.spec)) return shortage_without_gpus(job, *bytes);
  std::string out = device_shortage(cluster, job, needs, *bytes);
  const std::string host = host_shortage(job, *bytes);
  return out + (out.empty() || host.empty() ? "" : "; ") + host;
}

std::string host_memory_doubt(const Job& job, const PodNeeds& needs) {
  const auto& spec = job.spec;
  const auto& offload = spec.parallelism.zero.offload;
  const bool any = offload.optimizer || offload.parameters || spec.training.activationCheckpointing.offload;
  if (has_gpus(spec) ? !any : !limit_without_gpus(spec)) return "";
  const auto bytes = foretold(spec);
  if (!has_gpus(spec)) return bytes ? doubt_without_gpus(job, *bytes) : "";
  const std::int64_t need = bytes ? plan::host_bytes_per_worker(spec, *bytes) : 0, asked = needs.requests["memory"];
  if (need <= asked) return "";
  return offloaded_text(spec, need) + "asks for " + (asked == 0 ? "none" : bytes_text(asked)) +
         " (resources.requests.memory): a node may have less to spare, and kill them";
}

LayoutQuestion::LayoutQuestion(const Cluster& cluster, const Job& job, const PodNeeds& needs) : spec_(job.spec) {
  if (has_gpus(spec_)) {
    take_room_of_nodes(cluster, job, needs);
  } else {  // each rank an equal part
    room_.device = memory_limit(spec_).value_or(0) / contract::processes_per_worker(spec_) - kBesideTensorsOnCpu;
  }
  text_ = contract::encode(what_layouts_follow_from(spec_)).dump(-1, ' ', false, Json::error_handler_t::replace);
  for (const auto bytes : {room_.device, room_.host, room_.host_most}) text_ += " " + std::to_string(bytes);
}

void LayoutQuestion::take_room_of_nodes(const Cluster& cluster, const Job& job, const PodNeeds& needs) {
  room_.host = host_room(job, needs);
  std::int64_t device = 0;
  Eligible(cluster, job, needs).each([&](const Node& node) {
    room_.host_most = std::max(room_.host_most, node.allocatable["memory"]);
    device = std::max(device, device_memory(node, spec_.workers.gpuResourceName).value_or(0));
    return true;
  });
  if (!cluster.settings.sees_cluster) room_.host_most = std::numeric_limits<std::int64_t>::max();
  if (device > 0) room_.device = device - kBesideTensors;
}

/// A larger limit always helps, and is the user's to give.
std::string LayoutQuestion::answer_without_gpus() const {
  const std::string limit = "a memory limit of " +
                            memory_quantity(plan::tensor_bytes_per_worker(spec_) + beside_tensors_on_cpu(spec_)) +
                            " in workers.template";
  const auto found = plan::nearest_layout(spec_, room_);
  if (!found) return "No layout of these ranks was found that fits: it takes " + limit + ", more workers or a smaller model";
  std::string out = found->is_nearest ? "The nearest layout that fits: " : "A layout that fits: ";
  for (std::size_t i = 0; i < found->changes.size(); ++i) {
    out += (i == 0 ? "" : ", ") + found->changes[i].field + " " + found->changes[i].value;
  }
  return out + " (tensors of " + bytes_text(found->bytes.total()) + " a rank); this one takes " + limit;
}

std::string LayoutQuestion::answer() const {
  if (!has_gpus(spec_)) return answer_without_gpus();
  const auto found = plan::nearest_layout(spec_, room_);
  if (!found) {
    return "No layout of these " + std::to_string(contract::world_size(spec_)) +
           " ranks was found that fits: take more workers, larger GPUs or a smaller model";
  }
  std::string out;
  for (const auto& [field, value] : found->changes) out += (out.empty() ? "" : ", ") + field + " " + value;
  if (found->host_more > 0) {
    out += (out.empty() ? "" : ", ") + std::string("a memory request of ") + memory_quantity(found->host_more) +
           " and more, and no lower limit, in workers.template";
  }
  return (found->is_nearest ? "The nearest layout that fits: " : "A layout that fits: ") + out + " (" +
         bytes_text(found->bytes.total() + kBesideTensors) + " of the GPU's memory" +
         (found->bytes.host > 0
              ? ", " + bytes_text(plan::host_bytes_per_worker(found->spec, found->bytes)) + " of the host's a worker"
              : "") +
         ")";
}

}  // namespace trainyard::decide
