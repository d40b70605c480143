#pragma once
// What gradients take in the course of a step (worker/schedule/gradient_sum.h, sharded_gradients.h).
// Letters: P parameters of a pipeline stage on one tensor-parallel rank, c bytes of a number in the compute format, m micro-batches, U the
// parameters of a unit and S its part of a flat buffer (shards.h).

#include <cstdint>
#include <optional>

#include "crds/contract/job.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {

/// Of one rank, in bytes, while the backward pass of the micro-batch runs that `done` others of the step came before, 0 <= done < m.
/// b(n) is the number of ones in n's binary digits: of as many partial sums Canonical's tree consists.
///
///                        as it begins          as it ends
///   stage 0, Fast        4P, first 0           4P + c·P, first 4P
///   stage 0, Canonical   4P·b(done), a sum     4P·b(done) + c·P: all of the micro-batch's own are there at once
///                        of one c·P
///   shards of a sum      Fast 4P, first 0;     4·U more; of the last micro-batch, whose sums go as they are exchanged,
///                        Canonical 4P·b(done)  4·ΣS + 4·U + two exchanges
///   shards of each       4·ΣS, first 0         4·ΣS + c·U + two exchanges
///
/// An exchange has a flat buffer that goes, 4·dp·S, and one that comes: 4·S, with Canonical, which adds up itself, 4·dp·S, over Gloo, which does
/// so too, both. With a split backward all gradients of a micro-batch come at once, c·P.
class GradientCost {
 public:
  /// `elements`: P, a tied embedding that has two gradients counted twice, of which `last` have their gradients last: the first layer's and the
  /// embedding's. `zero`: with ZeRO.
  GradientCost(const contract::TrainingJobSpec& spec, std::int64_t elements, std::int64_t last,
               const std::optional<ZeroMemory>& zero);

  std::int64_t as_it_begins(std::int64_t done) const;
  /// With ZeRO, when nearly all activations are still there: the sums, c·U or 4·U of the unit and its exchange; 0 where it does not go yet.
  std::int64_t as_its_first_unit_goes(std::int64_t done) const;
  /// The same of that after it, beside the first's exchange: a layer's activations are gone.
  std::int64_t as_its_second_unit_goes(std::int64_t done) const;
  /// Offloaded, the same of the third and the fourth, 2 and 3: gradients do not grow any more while activations go. Else 0.
  std::int64_t as_a_later_unit_goes(std::int64_t done, std::int64_t unit) const;
  /// When the first layer, whose backward comes last, is computed.
  std::int64_t as_its_last_layer_begins(std::int64_t done) const;
  std::int64_t as_it_ends(std::int64_t done) const;
  /// After the last, at stage 0 with data ranks: the sums, and flat copies of them that are reduced.
  std::int64_t as_they_are_reduced() const;

 private:
  std::int64_t sums(std::int64_t done) const;

  bool is_canonical_, splits_, exchanges_each_;
  std::int64_t data_, micro_batches_, each_, sum_, own_, last_;
  std::optional<ZeroMemory> zero_;
};

}  // namespace trainyard::plan
