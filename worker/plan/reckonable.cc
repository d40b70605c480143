#include "worker/plan/reckonable.h"

#include <algorithm>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

// Each below 2^63 with the bytes that it is multiplied by: some 50 a token and unit of a layer's width; 28 a parameter that is kept, 16 of one
// that is sent, 4 of one whose sum is in the canonical order.
constexpr double kMostActivations = 5e16, kMostKept = 1e17, kMostSent = 5e17, kMostCanonical = 2e18;

}  // namespace

bool is_reckonable(const contract::TrainingJobSpec& spec) {
  const auto& size = spec.model.size.value();
  const double data = contract::degrees(spec).dp;
  const double samples = std::max<double>(spec.training.globalBatchSize, data * spec.parallelism.microBatchSize);
  const double width = double{1} * size.hiddenSize + size.feedForwardSize;
  const double activations = samples * spec.data.sequenceLength * (size.layers * width + size.vocabularySize);
  const double parameters = size.layers * layer_matmul_parameters(size) + 2 * head_matmul_parameters(size);
  const bool is_canonical = spec.training.reduction == contract::Reduction::kCanonical;
  return activations * spec.parallelism.tensor <= kMostActivations && parameters <= kMostKept &&
         parameters * std::max(samples, data) <= kMostSent && (!is_canonical || parameters * data * data <= kMostCanonical);
}

}  // namespace trainyard::plan
