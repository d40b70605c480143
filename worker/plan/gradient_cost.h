#pragma once
// What gradients take in the course of a step (worker/schedule/gradient_sum.h, bucketed_gradients.h).
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
///   a split backward      Fast 4P, first 0;     c·P more, and 4·U that are added to them; of the last micro-batch, whose sums go as they are
///   with shards of a sum  Canonical 4P·b(done)  exchanged, c·P and two exchanges
///   the same, of each     4·ΣS, first 0         4·ΣS + c·P + c·U + two exchanges
///
/// With several data ranks those of stage 0 are exchanged when the last has ended (whole_exchanges()). There and with ZeRO a backward that is not
/// split gives its gradients up one by one, while its activations go: backward_walk.h.
class GradientCost {
 public:
  /// `elements`: P, a tied embedding that has two gradients counted twice. `zero`: with ZeRO; then backward is a split one.
  GradientCost(const contract::TrainingJobSpec& spec, std::int64_t elements, const std::optional<ZeroMemory>& zero);

  std::int64_t as_it_begins(std::int64_t done) const;
  std::int64_t as_it_ends(std::int64_t done) const;

 private:
  std::int64_t sums(std::int64_t done) const;

  bool is_canonical_, exchanges_each_;
  std::int64_t micro_batches_, each_, sum_, own_;
  std::optional<ZeroMemory> zero_;
};

}  // namespace trainyard::plan
