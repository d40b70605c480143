#include "worker/plan/nearest_layout.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "crds/contract/validate.h"
#include "worker/plan/shards.h"
#include "worker/plan/staging_cost.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

using contract::TrainingJobSpec;

constexpr const char* kMicroBatch = "parallelism.microBatchSize";
constexpr const char* kTensor = "parallelism.tensor";
constexpr const char* kPipeline = "parallelism.pipeline";
constexpr const char* kMemory = "workers.template";  // its memory request

/// A layout, and how much memory its pods may ask for.
struct Option {
  TrainingJobSpec spec;
  bool asks_for_more = false;
};

/// A field, with what it may be instead, the best first.
struct Field {
  std::string name;
  struct Value {
    std::string text;
    std::function<void(Option&)> set;
  };
  std::vector<Value> values;
};

/// The divisors of `whole` but `now`, the nearest in proportion first.
std::vector<std::int32_t> other_divisors(std::int64_t whole, std::int32_t now, std::int64_t most) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 1; i <= std::min(whole, most); ++i) {
    if (whole % i == 0 && i != now) out.push_back(static_cast<std::int32_t>(i));
  }
  // By how many times it is the other: a/now < now/b compares without rounding.
  const auto times = [now](std::int32_t value) {
    const std::int64_t larger = std::max(value, now), smaller = std::min(value, now);
    return std::pair(larger, smaller);
  };
  std::stable_sort(out.begin(), out.end(), [&times](std::int32_t a, std::int32_t b) {
    const auto [large_a, small_a] = times(a);
    const auto [large_b, small_b] = times(b);
    const std::int64_t left = large_a * small_b, right = large_b * small_a;
    return left != right ? left < right : a > b;
  });
  return out;
}

class Search {
 public:
  Search(const TrainingJobSpec& spec, const MemoryRoom& room) : spec_(spec), room_(room) { list_fields(); }

  std::optional<FittingLayout> find() {
    for (std::size_t changes = 1; changes <= fields_.size() && tries_left_ > 0; ++changes) {
      std::vector<std::size_t> chosen;
      if (auto found = choose(0, changes, chosen)) return found;
    }
    if (tries_left_ > 0) return std::nullopt;  // all were tried
    tries_left_ = kLayoutsTried;
    Chosen chosen;
    auto found = save_most(0, {spec_, false}, chosen);
    if (found) found->is_nearest = false;
    return found;
  }

 private:
  using Chosen = std::vector<std::pair<std::size_t, std::size_t>>;  // field and value, by their places

  void list_fields() {
    const auto& parallelism = spec_.parallelism;
    using contract::RecomputeMode;
    if (parallelism.tensor > 1) {
      add_switch("parallelism.sequence", parallelism.sequence, [](Option& to) { to.spec.parallelism.sequence = true; });
    }
    Field micro{.name = kMicroBatch, .values = {}};
    const auto smaller = other_divisors(parallelism.microBatchSize, parallelism.microBatchSize, parallelism.microBatchSize);
    for (const auto value : smaller) {
      micro.values.push_back({std::to_string(value), [value](Option& to) { to.spec.parallelism.microBatchSize = value; }});
    }
    Field mode{.name = "training.activationCheckpointing.mode", .values = {}};
    const auto now = spec_.training.activationCheckpointing.mode;
    if (now == RecomputeMode::kNone) add_mode(mode, RecomputeMode::kSelective);
    if (now != RecomputeMode::kFull) add_mode(mode, RecomputeMode::kFull);
    const bool sends_each = reduces_every_micro_batch(spec_);  // so that smaller ones cost more of the network than it saves
    fields_.push_back(sends_each ? mode : micro);
    fields_.push_back(sends_each ? micro : mode);
    Field zero{.name = "parallelism.zero.stage", .values = {}};
    constexpr std::int32_t kHighest = 3;
    for (std::int32_t stage = parallelism.zero.stage + 1; stage <= kHighest; ++stage) {
      zero.values.push_back({std::to_string(stage), [stage](Option& to) { to.spec.parallelism.zero.stage = stage; }});
    }
    fields_.push_back(std::move(zero));
    add_switch("parallelism.zero.offload.optimizer", parallelism.zero.offload.optimizer,
               [](Option& to) { to.spec.parallelism.zero.offload.optimizer = true; });
    add_switch("parallelism.zero.offload.parameters", parallelism.zero.offload.parameters,
               [](Option& to) { to.spec.parallelism.zero.offload.parameters = true; });
    add_switch("training.activationCheckpointing.offload", spec_.training.activationCheckpointing.offload,
               [](Option& to) { to.spec.training.activationCheckpointing.offload = true; });
    Field schedule{.name = "parallelism.pipelineSchedule.name", .values = {}};
    const contract::PipelineSchedule plain{};
    if (parallelism.pipeline > 1 && parallelism.pipelineSchedule.name != plain.name) {
      schedule.values.push_back(
          {std::string(contract::name_of(plain.name)), [plain](Option& to) { to.spec.parallelism.pipelineSchedule = plain; }});
    }
    fields_.push_back(std::move(schedule));
    list_degrees();
    Field memory{.name = kMemory, .values = {}};
    if (room_.host_most > room_.host) memory.values.push_back({"", [](Option& to) { to.asks_for_more = true; }});
    fields_.push_back(std::move(memory));
    std::erase_if(fields_, [](const Field& field) { return field.values.empty(); });
  }

  void list_degrees() {
    const auto& parallelism = spec_.parallelism;
    const std::int32_t ranks = contract::processes_per_worker(spec_);
    Field tensor{.name = kTensor, .values = {}};
    for (const auto value : other_divisors(ranks, parallelism.tensor, ranks)) {
      tensor.values.push_back({std::to_string(value), [value](Option& to) { to.spec.parallelism.tensor = value; }});
    }
    fields_.push_back(std::move(tensor));
    Field pipeline{.name = kPipeline, .values = {}};
    const auto layers = spec_.model.size.value().layers;
    for (const auto value : other_divisors(contract::world_size(spec_), parallelism.pipeline, layers)) {
      pipeline.values.push_back({std::to_string(value), [value](Option& to) { to.spec.parallelism.pipeline = value; }});
    }
    fields_.push_back(std::move(pipeline));
  }

  static void add_mode(Field& field, contract::RecomputeMode mode) {
    field.values.push_back(
        {std::string(contract::name_of(mode)), [mode](Option& to) { to.spec.training.activationCheckpointing.mode = mode; }});
  }
  void add_switch(const char* name, bool is_on, std::function<void(Option&)> set) {
    Field field{.name = name, .values = {}};
    if (!is_on) field.values.push_back({"true", std::move(set)});
    fields_.push_back(std::move(field));
  }

  /// The first that fits of those that change the `chosen` fields and so many more of those from `first` on.
  std::optional<FittingLayout> choose(std::size_t first, std::size_t changes, std::vector<std::size_t>& chosen) {
    Chosen values;
    if (changes == 0) return with_values(chosen, {spec_, false}, values);
    for (std::size_t field = first; field + changes <= fields_.size() && tries_left_ > 0; ++field) {
      chosen.push_back(field);
      auto found = choose(field + 1, changes - 1, chosen);
      chosen.pop_back();
      if (found) return found;
    }
    return std::nullopt;
  }

  /// The first that fits of those that give these fields other values, of which the first already have theirs.
  std::optional<FittingLayout> with_values(const std::vector<std::size_t>& fields, const Option& option, Chosen& chosen) {
    if (chosen.size() == fields.size()) return tries_left_-- > 0 ? fitting(option, chosen) : std::nullopt;
    const std::size_t field = fields[chosen.size()];
    for (std::size_t value = 0; value < fields_[field].values.size() && tries_left_ > 0; ++value) {
      Option next = option;
      fields_[field].values[value].set(next);
      chosen.emplace_back(field, value);
      auto found = with_values(fields, next, chosen);
      chosen.pop_back();
      if (found) return found;
    }
    return std::nullopt;
  }

  std::optional<FittingLayout> fitting(Option option, const Chosen& chosen) {
    auto& parallelism = option.spec.parallelism;
    if (parallelism.data) {
      const std::int64_t replica = std::int64_t{parallelism.tensor} * parallelism.pipeline * parallelism.context;
      parallelism.data = static_cast<std::int32_t>(std::max<std::int64_t>(1, contract::world_size(option.spec) / replica));
    }
    if (!contract::validate(option.spec).empty()) return std::nullopt;
    // Without GPUs what checkpoints are written from is in the same memory.
    const std::int64_t staged = option.spec.workers.gpusPerWorker > 0 ? 0 : staging_bytes(option.spec);
    const std::int64_t host_room = option.asks_for_more ? room_.host_most : room_.host;
    RankBytes most;
    std::int64_t host = 0;
    for (std::int32_t stage = 0; stage < parallelism.pipeline; ++stage) {  // most of those that don't fit are known by the first
      const auto bytes = bytes_per_rank(option.spec, stage);
      tries_left_ -= shard_ranks(option.spec) / kRanksATry;  // each of them has its cut
      host = std::max(host, bytes.host);
      if (bytes.total() + staged > room_.device) return std::nullopt;
      if (bytes.total() > most.total()) most = bytes;
    }
    most.host = host;
    const std::int64_t of_worker = host_bytes_per_worker(option.spec, most);
    if (of_worker > host_room) return std::nullopt;
    FittingLayout out{.spec = option.spec, .changes = {}, .bytes = most, .host_more = of_worker > room_.host ? of_worker : 0};
    for (const auto& [field, value] : chosen) {
      const auto& text = fields_[field].values[value].text;
      if (!text.empty()) out.changes.push_back({fields_[field].name, text});
    }
    if (parallelism.pipelineSchedule.virtualStages != spec_.parallelism.pipelineSchedule.virtualStages) {
      out.changes.push_back(
          {"parallelism.pipelineSchedule.virtualStages", std::to_string(parallelism.pipelineSchedule.virtualStages)});
    }
    if (parallelism.data != spec_.parallelism.data) {
      out.changes.push_back({"parallelism.data", std::to_string(parallelism.data.value_or(0))});
    }
    return out;
  }

  /// The first that fits of those with the smallest micro-batch, most of the host's memory and, of the other fields, what saves most first.
  std::optional<FittingLayout> save_most(std::size_t field, const Option& option, Chosen& chosen) {
    if (tries_left_ <= 0) return std::nullopt;
    if (field == fields_.size()) {
      --tries_left_;
      auto found = fitting(option, chosen);
      if (found) found = with_fewer_changes(chosen, std::move(*found));
      return found;
    }
    const auto& [name, values] = fields_[field];
    const bool is_degree = name == kTensor || name == kPipeline, always_saves = name == kMicroBatch || name == kMemory;
    const auto keep = [&] { return always_saves ? std::nullopt : save_most(field + 1, option, chosen); };
    if (is_degree) {
      if (auto found = keep()) return found;
    }
    for (std::size_t i = 0; i < (always_saves ? 1 : values.size()); ++i) {
      const std::size_t value = is_degree ? i : values.size() - 1 - i;
      Option next = option;
      values[value].set(next);
      chosen.emplace_back(field, value);
      auto found = save_most(field + 1, next, chosen);
      chosen.pop_back();
      if (found) return found;
    }
    return is_degree ? std::nullopt : keep();
  }

  FittingLayout with_fewer_changes(Chosen chosen, FittingLayout found) {
    for (std::size_t i = chosen.size(); i-- > 0;) {  // the last fields are the dearest
      Chosen without = chosen;
      without.erase(without.begin() + static_cast<std::ptrdiff_t>(i));
      if (auto better = fitting(made_of(without), without)) {
        chosen = std::move(without);
        found = std::move(*better);
      }
    }
    return found;
  }

  Option made_of(const Chosen& chosen) const {
    Option option{spec_, false};
    for (const auto& [field, value] : chosen) fields_[field].values[value].set(option);
    return option;
  }

  const TrainingJobSpec& spec_;
  const MemoryRoom& room_;
  std::vector<Field> fields_;
  std::int64_t tries_left_ = kLayoutsTried;
};

}  // namespace

std::int64_t host_bytes_per_worker(const contract::TrainingJobSpec& spec, const RankBytes& bytes) {
  if (bytes.host == 0) return 0;
  return (bytes.host + staging_bytes(spec)) * contract::processes_per_worker(spec);
}

std::optional<FittingLayout> nearest_layout(const TrainingJobSpec& spec, const MemoryRoom& room) {
  // The template is of no matter here, and may be large.
  TrainingJobSpec bare = spec;
  bare.workers.templ = contract::Json::object();
  auto found = Search(bare, room).find();
  if (found) found->spec.workers.templ = spec.workers.templ;
  return found;
}

}  // namespace trainyard::plan
