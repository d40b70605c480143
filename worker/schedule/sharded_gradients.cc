#include "worker/schedule/sharded_gradients.h"

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

/// Exchanges under way: one goes over the network while the next is packed. More would cost memory and win nothing.
constexpr std::size_t kMostFlights = 2;

}  // namespace

/// The leaves of one use of a unit. A tied embedding that is looked up and multiplied with on one rank has two.
struct ShardedGradients::Bucket {
  const plan::ShardUnit* unit = nullptr;
  std::vector<std::size_t> leaves;  // by place in the unit
  Summand gradients;                // of the micro-batch whose backward is under way
  std::size_t present = 0;
  GradientSum sum;
  std::int32_t micro_batches = 0;  // done
  at::Tensor shard;                // flat, FP32
};

struct ShardedGradients::Flight {
  Bucket* bucket = nullptr;
  at::Tensor in, out;
  std::unique_ptr<mesh::Pending> pending;
};

class ShardedGradients::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(ShardedGradients& gradients, std::size_t leaf) : gradients_(gradients), leaf_(leaf) {}
  void operator()(const at::Tensor& variable) override {
    at::Tensor gradient = variable.grad();
    variable.mutable_grad().reset();
    gradients_.arrived(leaf_, std::move(gradient));
  }

 private:
  ShardedGradients& gradients_;
  std::size_t leaf_;
};

ShardedGradients::ShardedGradients(const contract::TrainingJobSpec& spec, model::Parameters& parameters, mesh::Mesh& mesh,
                                   bool early)
    : reduction_(spec.training.reduction),
      every_(plan::reduces_every_micro_batch(spec)),
      parameters_(parameters),
      mesh_(mesh),
      shards_(mesh.shards()),
      losses_(reduction_) {
  const auto& leaves = parameters.leaves();
  places_.resize(leaves.size());
  std::vector<bool> placed(leaves.size(), false);
  // The look-up's leaf of a tied embedding stands before the head's: the first pass takes the one, the second the other.
  for (bool more = true; more;) {
    more = false;
    for (const auto& unit : parameters.sharded()->units()) {
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
  for (std::size_t leaf = 0; early && leaf < leaves.size(); ++leaf) {
    torch::autograd::impl::set_post_acc_grad_hooks(leaves[leaf].variable, std::make_unique<Hook>(*this, leaf));
  }
}

ShardedGradients::~ShardedGradients() {
  for (const auto& leaf : parameters_.leaves()) torch::autograd::impl::set_post_acc_grad_hooks(leaf.variable, nullptr);
}

void ShardedGradients::begin(std::int32_t micro_batches) {
  micro_batches_ = micro_batches;
  for (auto& bucket : buckets_) {
    bucket.micro_batches = 0;
    bucket.shard.reset();
  }
}

void ShardedGradients::add(const std::vector<std::size_t>& leaves, Summand gradients) {
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (gradients[i].defined()) arrived(leaves[i], std::move(gradients[i]));
  }
}

void ShardedGradients::arrived(std::size_t leaf, at::Tensor gradient) {
  const at::NoGradGuard no_grad;
  const auto [index, place] = places_[leaf];
  Bucket& bucket = buckets_[index];
  if (bucket.gradients[place].defined()) throw std::logic_error("a weight has two gradients in one micro-batch");
  bucket.gradients[place] = std::move(gradient);
  if (++bucket.present < bucket.gradients.size()) return;
  bucket.present = 0;
  Summand wholes = std::exchange(bucket.gradients, Summand(bucket.leaves.size()));
  const bool is_last = ++bucket.micro_batches == micro_batches_;
  if (every_) return start(bucket, wholes);
  for (auto& whole : wholes) whole = whole.to(at::kFloat);
  bucket.sum.add(std::move(wholes));
  if (is_last) start(bucket, bucket.sum.take());
}

void ShardedGradients::start(Bucket& bucket, const Summand& wholes) {
  while (flights_.size() >= kMostFlights) finish_oldest();
  const auto& unit = *bucket.unit;
  const auto options = wholes.front().options().dtype(at::kFloat);
  auto& [of, in, out, pending] = flights_.emplace_back();
  of = &bucket;
  in = at::empty({unit.part_elements * shards_.size()}, options);
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
  if (reduction_ == contract::Reduction::kCanonical) {
    out = at::empty_like(in);
    pending = shards_.start_all_to_all(out, in);
  } else {
    out = at::empty({unit.part_elements}, options);
    pending = shards_.start_reduce_scatter(out, in);
  }
}

void ShardedGradients::finish_oldest() {
  Flight flight = std::move(flights_.front());
  flights_.erase(flights_.begin());
  flight.pending->wait();
  at::Tensor sum = flight.out;
  // The tree adds in the first part; a copy, so that the others go.
  if (reduction_ == contract::Reduction::kCanonical) sum = tree_sum(flight.out.chunk(shards_.size())).clone();
  auto& shard = flight.bucket->shard;
  if (shard.defined()) {
    shard.add_(sum);
  } else {
    shard = std::move(sum);
  }
}

Summand ShardedGradients::take() {
  const at::NoGradGuard no_grad;
  while (!flights_.empty()) finish_oldest();
  Summand sums(places_.size());
  for (auto& bucket : buckets_) {
    if (auto* const replicas = mesh_.replicas()) {
      Summand shard{std::move(bucket.shard)};
      reduce_over(*replicas, reduction_, shard);
      bucket.shard = std::move(shard.front());
    }
    const auto boxes = bucket.unit->boxes(shards_.rank());
    std::int64_t first = 0;
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      const std::int64_t count = plan::num_elements(boxes[i].sizes);
      sums[bucket.leaves[i]] = bucket.shard.narrow(0, first, count).view(boxes[i].sizes);
      first += count;
    }
  }
  Summand loss = losses_.take();
  reduce_over(mesh_.data(), reduction_, loss);
  sums.push_back(std::move(loss.front()));
  return sums;
}

}  // namespace trainyard::schedule
