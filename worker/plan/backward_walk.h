#pragma once
// What a rank holds from moment to moment of a step: gathered weights, gradients with what they are exchanged in, and activations, each with what
// is there of the others then (worker/schedule/bucketed_gradients.h, worker/model/sharded_weights.h). Not of a split backward: gradient_cost.h.

#include <cstdint>
#include <optional>
#include <vector>

#include "crds/contract/job.h"
#include "worker/plan/gradient_cost.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {

/// Bytes at one moment.
struct Moment {
  std::int64_t weights = 0;  // gathered ones of ZeRO 3; of other stages those that are always there are not in it
  std::int64_t gradients = 0;
  std::int64_t activations = 0;
  std::int64_t total() const { return weights + gradients + activations; }
  bool operator==(const Moment&) const = default;
};

/// As a micro-batch's backward begins, in bytes.
struct WalkedActivations {
  std::int64_t others = 0;          // of micro-batches that are still in flight when this one is done
  std::int64_t kept = 0;            // of all in flight, but for what this one's head keeps
  std::int64_t head = 0;            // what that keeps
  std::int64_t work = 0;            // what its backward works with
  std::int64_t layer = 0;           // of `kept`, of one layer
  std::int64_t computed_again = 0;  // while a layer's backward runs
  std::int64_t layer_work = 0;      // what that works with
  std::int64_t stream =
      0;  // while backward goes through the layers: the residual stream's gradient, and what came from the stage behind
};

/// Backward comes from unit to unit (zero_cost.h). Letters: U its parameters, S its part of a flat buffer, n ranks that shard, c bytes of a number
/// in the compute format, and x·S what an exchange takes.
///
///                             weights (stage 3)        gradients
///   a unit is gathered        c·((n+1)·S + U), and     sums, the exchanges of two units before at the most
///                             (n+1)·S of the next
///   a layer's SwiGLU ends     c·U, (n+1)·S of the next the same, and c·D·F of the product behind it
///   its gradients are there   c·U, (n+1)·S of the next the same, and c·U, 4·U where micro-batches are added up first
///   they are exchanged        the same                 the same with x·S, without the older of the two exchanges
///
/// Without ZeRO data ranks exchange the sum over micro-batches too: a flat copy of it, 4·U, is what stays, and what there is of WholeGathers stands for x·S.
/// Before, a unit's gradients are added up: where they, or the ones they are added to, are in the compute format still, BackwardUnit::turning and c·U.
/// A rank alone keeps the micro-batch's own gradients until its backward is over.
///
/// The activations of a layer are gone when its gradients are there. Exchanges of the last two units go on beside the next micro-batch's forward, until
/// its head or its backward begins; with offload they do not. A look-up's backward needs no weights.
class BackwardWalk {
 public:
  /// `parameters`: P of gradient_cost.h. `elements`: the same with a tied embedding that has two gradients counted twice. `zero`: with ZeRO.
  BackwardWalk(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int64_t parameters, std::int64_t elements,
               const std::optional<ZeroMemory>& zero);

  /// The moment that takes most of the micro-batch whose backward comes after those of `done` others. `forward_between`: whether a forward pass
  /// comes between the last one's backward and its.
  Moment most(std::int64_t done, bool forward_between, const WalkedActivations& activations) const;
  /// Of those after the last micro-batch: AdamW's step, which on CPUs has 4 bytes of each number of the tensor that it changes (12 where moments are
  /// BF16), and with ZeRO 1 and 2 the gathering of weights.
  Moment most_after() const;

 private:
  class Course;
  std::int64_t sums(std::int64_t done) const;
  std::int64_t roots(std::int64_t done) const;
  std::int64_t sum_bytes(std::int64_t done) const;
  bool turns(std::int64_t done) const;
  std::int64_t exchange(const BackwardUnit& unit, std::int64_t done) const;

  GradientCost whole_;
  std::optional<ZeroMemory> zero_;
  std::vector<BackwardUnit> units_;
  bool is_canonical_, exchanges_each_, on_host_;
  std::int64_t micro_batches_, each_, down_, parameters_, sum_, exchange_bytes_, step_bytes_;
  std::optional<WholeGathers> whole_gathers_;  // of nothing yet; empty where nobody gets whole sums of others
  std::int64_t gathers_;                       // ranks that gather whole weights after the step; 0 where they do not
};

}  // namespace trainyard::plan
