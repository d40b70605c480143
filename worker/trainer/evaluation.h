#pragma once
// The loss on data that is not trained on.

#include <cstdint>

#include "crds/contract/job.h"
#include "worker/data/sample_stream.h"
#include "worker/mesh/mesh.h"
#include "worker/trainer/engine.h"

namespace trainyard::trainer {

/// The micro-batches of an evaluation that a data rank reads: [first, first + count), each of `size` samples.
struct EvaluationShare {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t most = 0;   // the count of the rank that has most
  std::int64_t size = 1;   // samples a micro-batch
  std::int64_t total = 0;  // micro-batches of all data ranks
  bool operator==(const EvaluationShare&) const = default;
};

/// The first `batches` global batches of the validation samples, or all of them, in whole micro-batches (a rest smaller than one is left
/// out), spread over the data ranks as evenly as it goes. So the same samples are read in every layout.
EvaluationShare evaluation_share(const contract::TrainingJobSpec& spec, std::int64_t num_samples, std::int32_t dp,
                                 std::int32_t dp_rank);

/// The mean cross entropy a token in nats, equal on all ranks. Collective over the mesh.
double evaluate(const contract::TrainingJobSpec& spec, const data::SampleSet& samples, Engine& engine, mesh::Mesh& mesh);

}  // namespace trainyard::trainer
