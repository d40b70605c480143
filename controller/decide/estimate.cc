#include "controller/decide/estimate.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>

#include "controller/decide/devices.h"
#include "controller/decide/memory_fit.h"
#include "controller/decide/progress.h"
#include "controller/decide/traffic.h"
#include "worker/plan/offload_cost.h"
#include "worker/plan/roofline.h"

namespace trainyard::decide {
namespace {

/// Of all of the gang's GPUs the least in everything.
struct Slowest {
  plan::Device device;
  double peak_flops = 0;
};

plan::Device lesser(const plan::Device& a, const plan::Device& b) {
  return {.half_flops = std::min(a.half_flops, b.half_flops),
          .fp8_flops = std::min(a.fp8_flops, b.fp8_flops),
          .link_bytes = std::min(a.link_bytes, b.link_bytes),
          .host_bytes = std::min(a.host_bytes, b.host_bytes),
          .network_bytes = std::min(a.network_bytes, b.network_bytes),
          .sums_in_switch = a.sums_in_switch || b.sums_in_switch};  // it is less that is sent then: still a bound
}

class Place {
 public:
  Place(const Topology& topology, const contract::TrainingJobSpec& spec, const std::vector<std::string>& nodes)
      : spec_(spec), resource_(spec.workers.gpuResourceName) {
    for (const auto& name : std::set<std::string>(nodes.begin(), nodes.end())) {
      const auto index = topology.find_node(name);
      if (index >= 0) nodes_.push_back(&topology.node(static_cast<std::size_t>(index)));
    }
  }

  bool is_empty() const { return nodes_.empty(); }
  const std::string& unknown() const { return unknown_; }

  /// Nothing where one of its nodes does not tell.
  std::optional<std::int64_t> memory() {
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (const auto* node : nodes_) {
      const auto memory = device_memory(*node, resource_);
      if (!memory) {
        say("whether a rank's memory is enough: node " + node->name + " has no label " + resource_ + ".memory");
        return std::nullopt;
      }
      if (shares_devices(*node, resource_)) {
        say("whether a rank's memory is enough: the GPUs of node " + node->name + " are shared (label " + resource_ +
            ".replicas)");
        return std::nullopt;
      }
      least = std::min(least, *memory);
    }
    return least;
  }

  std::optional<Slowest> slowest() {
    const auto compute = spec_.training.precision.compute;
    std::optional<Slowest> out;
    std::string alone;  // a node of whose network nothing is known
    for (const auto* node : nodes_) {
      const std::string name = device_name(*node, resource_);
      const auto device = plan::find_device(name);
      const auto peak = plan::peak_flops(name, compute);
      if (!device || !peak) {
        say("how fast it can be: " + why_not(*node, name, device.has_value()));
        return std::nullopt;
      }
      if (device->network_bytes <= 0) alone = node->name;
      out = out ? Slowest{lesser(out->device, *device), std::min(out->peak_flops, *peak)} : Slowest{*device, *peak};
    }
    if (nodes_.size() > 1 && !alone.empty()) {
      say("how fast it can be: no network is known to belong to GPUs such as those of node " + alone);
      return std::nullopt;
    }
    return out;
  }

 private:
  void say(const std::string& what) { unknown_ += (unknown_.empty() ? "" : "; ") + what; }

  std::string why_not(const Node& node, const std::string& name, bool is_known) const {
    if (name.empty()) return "node " + node.name + " has no label " + resource_ + ".product";
    if (!is_known) return "nothing is known of " + name + ", the GPUs of node " + node.name;
    return "no peak is known of " + name + " in " + std::string(contract::name_of(spec_.training.precision.compute));
  }

  const contract::TrainingJobSpec& spec_;
  const std::string& resource_;
  std::vector<const Node*> nodes_;
  std::string unknown_;
};

std::int64_t most_offloaded(const contract::TrainingJobSpec& spec) {
  std::int64_t most = 0;
  for (std::int32_t stage = 0; stage < spec.parallelism.pipeline; ++stage) {
    most = std::max(most, plan::host_traffic_per_step(spec, stage).total());
  }
  return most;
}

contract::StepBound bound_of(const plan::StepTime& time) {
  const double most = std::max({time.busy(), time.network, time.host});
  if (time.busy() >= most) return contract::StepBound::kCompute;
  return time.network >= most ? contract::StepBound::kNetwork : contract::StepBound::kOffload;
}

contract::Estimate estimate_of(const contract::TrainingJobSpec& spec, const Slowest& slowest, double network_seconds) {
  const auto time = plan::step_time(spec, slowest.device, slowest.peak_flops, network_seconds);
  const double tokens = static_cast<double>(spec.training.globalBatchSize) * spec.data.sequenceLength;
  return {.mfu = std::min(1.0, rounded(plan::model_flops_utilization(spec, slowest.peak_flops, time))),
          .tokensPerSecond = rounded(tokens / time.step()),
          .stepSeconds = rounded(time.step()),
          .bound = bound_of(time)};
}

}  // namespace

void tell_place(const Topology& topology, const contract::TrainingJobSpec& spec, const std::vector<std::string>& nodes,
                contract::PlacementStatus& place) {
  place.memoryPerRank = memory_status(spec);
  if (!place.memoryPerRank) return;
  if (const auto bytes = most_offloaded(spec); bytes > 0) place.offloadBytesPerStep = bytes;
  Place at(topology, spec, nodes);
  if (at.is_empty()) return;
  const auto links = links_of(spec);
  place.traffic = traffic_status(topology, spec, links, nodes);
  if (spec.workers.gpusPerWorker < 1) return;
  place.memoryPerRank->device = at.memory();
  if (const auto slowest = at.slowest()) {
    double network_seconds = 0;
    if (nodes.size() > 1) {
      const double of_worker = slowest->device.network_bytes * spec.workers.gpusPerWorker;
      const auto seconds = of_worker > 0 ? crossing_seconds(topology, links, nodes, of_worker) : std::vector<double>{};
      for (std::size_t level = 0; level < std::min(seconds.size(), place.traffic.size()); ++level) {
        place.traffic[level].seconds = rounded(seconds[level]);
        network_seconds = std::max(network_seconds, seconds[level]);
      }
    }
    place.estimate = estimate_of(spec, *slowest, network_seconds);
  }
  if (!at.unknown().empty()) place.unknown = at.unknown();
}

}  // namespace trainyard::decide
