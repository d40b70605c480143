#include "worker/schedule/bucketed_gradients.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/torch.h>

#include "worker/plan/shards.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::schedule {
namespace {

/// Exchanges under way that take memory: one goes over the network while the next is packed, and each more would take as much.
constexpr std::size_t kMostFlights = 2;

/// What this rank has of its stage's parameters, in units that nobody shards.
std::vector<plan::ShardUnit> whole_units(const model::Parameters& parameters, const mesh::Mesh& mesh) {
  std::vector<plan::Parameter> mine;
  for (const auto& parameter : parameters.all()) mine.push_back(parameter.global);
  return plan::shard_units(mine, mesh.layout().degrees().tp, mesh.at().tp, 1);
}

}  // namespace

/// The leaves of one use of a unit. A tied embedding that is looked up and multiplied with on one rank has two.
struct BucketedGradients::Bucket {
  const plan::ShardUnit* unit = nullptr;
  std::vector<std::size_t> leaves;  // by place in the unit
  Summand gradients;                // of the micro-batch whose backward is under way
  std::size_t present = 0;
  GradientSum sum;
  std::int32_t micro_batches = 0;  // done
  at::Tensor kept;                 // flat, FP32: of ZeRO the shard; undefined where it is on the host
};

struct BucketedGradients::Flight {
  std::size_t bucket = 0;
  at::Tensor in, out;
  at::Tensor whole;                        // without ZeRO: a part of what the bucket keeps, which is summed there
  std::unique_ptr<mesh::Pending> pending;  // null where there is nobody to exchange with
  OffloadedSums::Up before;                // of the micro-batches before, where these are on the host
};

class BucketedGradients::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(BucketedGradients& gradients, std::size_t leaf) : gradients_(gradients), leaf_(leaf) {}
  void operator()(const at::Tensor& variable) override {
    at::Tensor gradient = variable.grad();
    variable.mutable_grad().reset();
    gradients_.arrived(leaf_, std::move(gradient));
  }

 private:
  BucketedGradients& gradients_;
  std::size_t leaf_;
};

BucketedGradients::BucketedGradients(const contract::TrainingJobSpec& spec, model::Parameters& parameters, mesh::Mesh& mesh,
                                     bool early)
    : reduction_(spec.training.reduction),
      every_(plan::reduces_every_micro_batch(spec)),
      parameters_(parameters),
      mesh_(mesh),
      ranks_(parameters.sharded() != nullptr ? mesh.shards() : mesh.data()),
      units_(parameters.sharded() != nullptr ? std::vector<plan::ShardUnit>() : whole_units(parameters, mesh)),
      in_place_(!units_.empty() && reduction_ == contract::Reduction::kFast),
      losses_(reduction_) {
  const auto& leaves = parameters.leaves();
  places_.resize(leaves.size());
  std::vector<bool> placed(leaves.size(), false);
  // The look-up's leaf of a tied embedding stands before the head's: the first pass takes the one, the second the other.
  for (bool more = true; more;) {
    more = false;
    for (const auto& unit : parameters.sharded() != nullptr ? parameters.sharded()->units() : units_) {
      std::vector<std::size_t> found;
      for (const auto parameter : unit.parameters) {
        for (std::size_t leaf = 0; leaf < leaves.size(); ++leaf) {
          if (leaves[leaf].parameter != parameter || placed[leaf]) continue;
          found.push_back(leaf);
          break;
        }
      }
      if (found.empty()) continue;
      more = true;
      for (std::size_t place = 0; place < found.size(); ++place) {
        placed[found[place]] = true;
        places_[found[place]] = {buckets_.size(), place};
      }
      buckets_.push_back(
          Bucket{.unit = &unit, .leaves = found, .gradients = Summand(found.size()), .sum = GradientSum(reduction_)});
    }
  }
  if (spec.parallelism.zero.offload.optimizer) {
    std::vector<std::int64_t> elements;
    for (const auto& bucket : buckets_) elements.push_back(bucket.unit->part_elements);
    on_host_ = std::make_unique<OffloadedSums>(mesh.host(), elements);
  }
  for (std::size_t leaf = 0; early && leaf < leaves.size(); ++leaf) {
    torch::autograd::impl::set_post_acc_grad_hooks(leaves[leaf].variable, std::make_unique<Hook>(*this, leaf));
  }
}

BucketedGradients::~BucketedGradients() {
  for (const auto& leaf : parameters_.leaves()) torch::autograd::impl::set_post_acc_grad_hooks(leaf.variable, nullptr);
}

void BucketedGradients::begin(std::int32_t micro_batches) {
  micro_batches_ = micro_batches;
  for (auto& bucket : buckets_) {
    bucket.micro_batches = 0;
    bucket.kept.reset();
  }
  if (on_host_) on_host_->begin();
}

void BucketedGradients::add(const std::vector<std::size_t>& leaves, Summand gradients) {
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (gradients[i].defined()) arrived(leaves[i], std::move(gradients[i]));
  }
  // Their buffers would stay until the next backward, beside its activations: whoever offloads has no room for that.
  if (on_host_) settle();
}

void BucketedGradients::arrived(std::size_t leaf, at::Tensor gradient) {
  const at::NoGradGuard no_grad;
  const auto [index, place] = places_[leaf];
  Bucket& bucket = buckets_[index];
  if (bucket.gradients[place].defined()) throw std::logic_error("a weight has two gradients in one micro-batch");
  bucket.gradients[place] = std::move(gradient);
  if (++bucket.present < bucket.gradients.size()) return;
  bucket.present = 0;
  Summand wholes = std::exchange(bucket.gradients, Summand(bucket.leaves.size()));
  const bool is_last = ++bucket.micro_batches == micro_batches_;
  if (every_) return start(index, wholes);
  if (units_.empty()) {
    for (auto& whole : wholes) whole = whole.to(at::kFloat);
  }
  bucket.sum.add(std::move(wholes));
  if (is_last) start(index, bucket.sum.take());
}

void BucketedGradients::start(std::size_t index, const Summand& wholes) {
  if (units_.empty()) return start_shards(index, wholes);
  start_whole(index, wholes);
}

/// Into what the bucket keeps. Canonical gathers what the others have, a part at a time, since that takes as much of each rank.
void BucketedGradients::start_whole(std::size_t index, const Summand& wholes) {
  const auto make_room = [&] {
    while (flights_.size() >= kMostFlights) finish_oldest();
  };
  if (!in_place_) make_room();  // before the sum is there twice
  at::Tensor& kept = buckets_[index].kept = flattened(wholes);
  const auto part = [&](std::int64_t first, std::int64_t most) -> Flight& {
    auto& flight = flights_.emplace_back();
    flight.bucket = index;
    flight.whole = kept.narrow(0, first, std::min(most, kept.numel() - first));
    return flight;
  };
  if (in_place_) {
    auto& flight = part(0, kept.numel());
    flight.pending = ranks_.start_all_reduce(flight.whole, mesh::ReduceOp::kSum);
    return;
  }
  for (std::int64_t first = 0; first < kept.numel(); first += plan::kGatheredElements) {
    make_room();
    auto& flight = part(first, plan::kGatheredElements);
    flight.out = at::empty({flight.whole.numel() * ranks_.size()}, kept.options());
    flight.pending = ranks_.start_all_gather(flight.out, flight.whole);
  }
}

void BucketedGradients::start_shards(std::size_t index, const Summand& wholes) {
  // On the host the sum of a bucket's last micro-batch has to be there before this one is added to it.
  const auto is_under_way = [&] {
    return std::any_of(flights_.begin(), flights_.end(), [&](const Flight& flight) { return flight.bucket == index; });
  };
  while (flights_.size() >= kMostFlights || (on_host_ && is_under_way())) finish_oldest();
  const auto& unit = *buckets_[index].unit;
  const auto options = wholes.front().options().dtype(at::kFloat);
  auto& [of, in, out, whole, pending, before] = flights_.emplace_back();
  of = index;
  in = at::empty({unit.part_elements * ranks_.size()}, options);
  std::vector<std::int64_t> next_row(wholes.size(), 0);
  for (std::int32_t rank = 0; rank < unit.data_ranks(); ++rank) {
    std::int64_t first = rank * unit.part_elements;
    const auto boxes = unit.boxes(rank);
    for (std::size_t i = 0; i < wholes.size(); ++i) {
      const std::int64_t rows = boxes[i].sizes[0];
      if (rows == 0) continue;
      const at::Tensor from = wholes[i].narrow(0, next_row[i], rows);
      in.narrow(0, first, from.numel()).view(from.sizes()).copy_(from);
      next_row[i] += rows;
      first += from.numel();
    }
    const std::int64_t end = (rank + 1) * unit.part_elements;
    if (end > first) in.narrow(0, first, end - first).zero_();
  }
  if (ranks_.size() == 1) {
    out = std::move(in);
  } else if (reduction_ == contract::Reduction::kCanonical) {
    out = at::empty_like(in);
    pending = ranks_.start_all_to_all(out, in);
  } else {
    out = at::empty({unit.part_elements}, options);
    pending = ranks_.start_reduce_scatter(out, in);
  }
  if (on_host_) before = on_host_->bring_up(index, mesh_.device());
}

void BucketedGradients::finish_oldest() {
  Flight flight = std::move(flights_.front());
  flights_.erase(flights_.begin());
  if (flight.pending) flight.pending->wait();
  if (flight.whole.defined()) {
    if (flight.out.defined()) flight.whole.copy_(tree_sum(flight.out.chunk(ranks_.size())));
    return;
  }
  at::Tensor sum = std::move(flight.out);
  // The tree adds in the first part; a copy, so that the others go.
  if (reduction_ == contract::Reduction::kCanonical && ranks_.size() > 1) sum = tree_sum(sum.chunk(ranks_.size())).clone();
  if (on_host_) {
    if (auto& [before, crossing] = flight.before; before.defined()) {
      crossing->wait_on_device();
      sum = before.add_(sum);
    }
    return on_host_->send_down(flight.bucket, std::move(sum));
  }
  auto& kept = buckets_[flight.bucket].kept;
  if (kept.defined()) {
    kept.add_(sum);
  } else {
    kept = std::move(sum);
  }
}

void BucketedGradients::finish_all() {
  const at::NoGradGuard no_grad;
  while (!flights_.empty()) finish_oldest();
}

void BucketedGradients::settle() {
  if (!in_place_) finish_all();
}

/// The sums over the micro-batches, with those of the ranks that keep the same shards. What lies on the host comes up for it.
void BucketedGradients::add_replicas(mesh::Comm& replicas) {
  OffloadedSums::Up next;
  if (on_host_) next = on_host_->bring_up(0, mesh_.device());
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    Summand shard;
    if (on_host_) {
      const auto up = std::exchange(next, {});
      if (i + 1 < buckets_.size()) next = on_host_->bring_up(i + 1, mesh_.device());
      up.crossing->wait_on_device();
      shard.push_back(up.sum);
    } else {
      shard.push_back(std::move(buckets_[i].kept));
    }
    reduce_over(replicas, reduction_, shard);
    if (on_host_) {
      on_host_->send_down(i, std::move(shard.front()));
    } else {
      buckets_[i].kept = std::move(shard.front());
    }
  }
}

Summand BucketedGradients::take() {
  const at::NoGradGuard no_grad;
  finish_all();
  if (auto* const replicas = mesh_.replicas(); replicas != nullptr && units_.empty()) add_replicas(*replicas);
  if (on_host_) on_host_->settle();
  Summand sums(places_.size());
  for (std::size_t index = 0; index < buckets_.size(); ++index) {
    auto& bucket = buckets_[index];
    // Whole sums stay no longer than whoever gets them needs them: of a tied embedding's two one is gone before AdamW's step.
    const at::Tensor kept = on_host_ ? on_host_->sum(index) : units_.empty() ? bucket.kept : std::exchange(bucket.kept, {});
    const auto boxes = bucket.unit->boxes(units_.empty() ? ranks_.rank() : 0);
    std::int64_t first = 0;
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      const std::int64_t count = plan::num_elements(boxes[i].sizes);
      sums[bucket.leaves[i]] = kept.narrow(0, first, count).view(boxes[i].sizes);
      first += count;
    }
  }
  Summand loss = losses_.take();
  reduce_over(mesh_.data(), reduction_, loss);
  sums.push_back(std::move(loss.front()));
  return sums;
}

}  // namespace trainyard::schedule
