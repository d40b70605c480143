#include "controller/decide/elastic.h"

#include <algorithm>

#include "controller/decide/conditions.h"
#include "crds/contract/layout.h"

namespace trainyard::decide {

using contract::ResizeReason;

namespace {

/// Whether so many workers are whole replicas, among which the batch can be shared out: what contract::validate() says of a spec of that
/// size, for less.
bool is_valid(const contract::TrainingJobSpec& spec, std::int64_t size) {
  if (spec.engine == contract::Engine::kCustom) return true;
  const auto& parallelism = spec.parallelism;
  const std::int64_t ranks = size * contract::processes_per_worker(spec);
  const std::int64_t replica = std::int64_t{parallelism.tensor} * parallelism.pipeline * parallelism.context;
  if (replica < 1 || ranks % replica != 0) return false;
  const bool goes_around = parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kInterleaved;
  const std::int64_t data = ranks / replica;
  const std::int64_t at_once = data * parallelism.microBatchSize * (goes_around ? parallelism.pipeline : 1);
  const std::int64_t experts = std::max(1, parallelism.expert);
  return at_once > 0 && spec.training.globalBatchSize % at_once == 0 &&
         data * parallelism.context * parallelism.tensor % experts == 0;
}

}  // namespace

std::int32_t gang_size(const contract::TrainingJobSpec& spec, const contract::TrainingJobStatus& status) {
  if (!status.placement) return spec.workers.count;
  const std::int32_t desired = status.workers.desired > 0 ? status.workers.desired : spec.workers.count;
  return status.placement->workers.value_or(desired);
}

std::vector<std::int32_t> gang_sizes(const contract::TrainingJobSpec& spec) {
  std::vector<std::int32_t> out{spec.workers.count};
  const std::int32_t least = std::max(1, spec.workers.minCount.value_or(spec.workers.count));
  for (std::int32_t size = spec.workers.count - 1; size >= least; --size) {
    if (is_valid(spec, size)) out.push_back(size);
  }
  return out;
}

contract::TrainingJobSpec at_size(const contract::TrainingJobSpec& spec, std::int32_t size) {
  contract::TrainingJobSpec out = spec;
  out.workers.count = size;
  out.workers.minCount.reset();
  out.workers.spares = 0;
  out.parallelism.data.reset();
  return out;
}

bool can_resize(const contract::TrainingJobSpec& spec) {
  return spec.engine == contract::Engine::kTrainyard && spec.checkpoint.has_value();
}

bool may_resize(const Job& job) {
  const auto& status = job.status;
  return can_resize(job.spec) && !job.spec.suspend && !is_finished(status) && is_true(status, condition::kRunning) &&
         reason_of(status, condition::kPlaced) == reason::kGangPlaced;
}

std::optional<std::int32_t> fewer_wanted(const Job& job) {
  if (job.spec.workers.count >= gang_size(job) || !may_resize(job)) return std::nullopt;
  return job.spec.workers.count;
}

bool asks_for_more(const Job& job) {
  const auto& placement = job.status.placement;
  return placement && placement->wanted.value_or(job.spec.workers.count) < job.spec.workers.count;
}

const contract::ResizeStatus* resize_for(const contract::TrainingJobStatus& status, ResizeReason reason) {
  return status.resize && status.resize->reason == reason ? &*status.resize : nullptr;
}

void set_resize(contract::TrainingJobStatus& status, ResizeReason reason, std::int32_t workers, Time at) {
  status.resize = contract::ResizeStatus{.reason = reason, .workers = workers, .at = contract::to_rfc3339(at)};
}

std::optional<Time> refused_until(const contract::TrainingJobStatus& status, Time now) {
  const auto* refused = resize_for(status, ResizeReason::kRefused);
  const auto until = refused == nullptr ? std::nullopt : contract::parse_rfc3339(refused->at);
  return until && *until > now ? until : std::nullopt;
}

std::optional<std::int32_t> refused_size(const contract::TrainingJobStatus& status, Time now) {
  return refused_until(status, now) ? std::optional(status.resize->workers) : std::nullopt;
}

void refuse_size(contract::TrainingJobStatus& status, std::int32_t size, const Settings& settings, Time now) {
  set_resize(status, ResizeReason::kRefused, size, now + std::max(settings.size_retry, settings.grow_after));
}

void forget_resize(contract::TrainingJobStatus& status, Time now) {
  if (!refused_size(status, now)) status.resize.reset();
}

Time grows_at(const Job& job, const Settings& settings, Time now) {
  if (asks_for_more(job)) return now;
  const auto* found = resize_for(job.status, ResizeReason::kRoomFound);
  const auto known = found == nullptr ? std::nullopt : contract::parse_rfc3339(found->at);
  return known.value_or(now + settings.grow_after);
}

}  // namespace trainyard::decide
