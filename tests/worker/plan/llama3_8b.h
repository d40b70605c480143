#pragma once

#include "crds/contract/recipe.h"

namespace trainyard::plan {

inline contract::ModelSize llama3_8b() {
  return {.layers = 32, .hiddenSize = 4096, .heads = 32, .keyValueHeads = 8, .feedForwardSize = 14336, .vocabularySize = 128256};
}

}  // namespace trainyard::plan
