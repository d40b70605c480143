#pragma once
// The learning rate as a function of the step alone.

#include <cstdint>

#include "crds/contract/job.h"

namespace trainyard::optim {

/// The learning rate of optimizer step `step`, counted from 1, of `steps`. With w = warmupSteps, p = learningRate, m = minimum:
///
///   step <= w     p · step / w                                  (the first step already trains; step w has the peak)
///   else, with t = (step − w) / (steps − w) in (0, 1]:
///   Cosine        m + (p − m) · (1 + cos(π t)) / 2
///   Linear        m + (p − m) · (1 − t)
///   Constant      p
///
/// So the last step has the minimum. Steps beyond `steps` keep the last one's rate.
double learning_rate(const contract::Training& training, std::int64_t step, std::int64_t steps);

}  // namespace trainyard::optim
