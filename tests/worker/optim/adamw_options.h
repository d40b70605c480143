#pragma once

#include "crds/contract/recipe.h"

namespace trainyard::optim {

inline contract::Optimizer adamw_options(double weight_decay = 0.1) {
  contract::Optimizer out;
  out.weightDecay = weight_decay;
  return out;
}

}  // namespace trainyard::optim
