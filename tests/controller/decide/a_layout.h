#pragma once
// Jobs by their degrees of parallelism, for the tests of what their workers say to each other.

#include "tests/support/builders.h"

namespace trainyard::test {

struct Degrees {
  int tensor, pipeline, data;
};

/// One GPU a rank.
inline contract::TrainingJobSpec job(int workers, int gpus, Degrees degrees) {
  auto spec = make_job("a", workers, gpus).spec;
  spec.parallelism.tensor = degrees.tensor;
  spec.parallelism.pipeline = degrees.pipeline;
  spec.parallelism.data = degrees.data;
  spec.model.size = contract::ModelSize{
      .layers = 24, .hiddenSize = 512, .heads = 16, .keyValueHeads = 16, .feedForwardSize = 1536, .vocabularySize = 4096};
  spec.data.sequenceLength = 1024;
  spec.parallelism.microBatchSize = 1;
  spec.training.globalBatchSize = 16 * degrees.data;
  return spec;
}

}  // namespace trainyard::test
