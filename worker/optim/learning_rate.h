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
///   WarmupStableDecay, with d = decaySteps, else a tenth of `steps`, rounded up, and e = max(w, steps − d):
///                 p up to step e, then, with t = (step − e) / (steps − e), m + (p − m) · (1 − t)
///
/// So the last step has the minimum, but for Constant. Steps beyond `steps` keep the last one's rate. Sources: Loshchilov and Hutter,
/// arXiv:1608.03983 (Cosine); Hu et al., "MiniCPM", arXiv:2404.06395, and Hägele et al., arXiv:2405.18392 (WarmupStableDecay).
double learning_rate(const contract::Training& training, std::int64_t step, std::int64_t steps);

}  // namespace trainyard::optim
