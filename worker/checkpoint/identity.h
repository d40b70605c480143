#pragma once
// Whether a checkpoint is one of this training.

#include <cstdint>
#include <string>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::checkpoint {

/// What a job must have in common with a checkpoint to go on from it: the model, and what the order of the data depends on: the format
/// and the number of tokens of each source (`source_tokens`, in the order of data.train), the sequence length and the seed. All else
/// (where the sources lie, their weights, layout, batch size, steps, learning rate, precision) may change between resumes.
contract::Json identity_of(const contract::TrainingJobSpec& spec, const std::vector<std::int64_t>& source_tokens);

/// One line for each difference, in the order of the fields: `model.size.layers is 4 in this job and 6 in the checkpoint`.
std::vector<std::string> differences(const contract::Json& job, const contract::Json& checkpoint);

}  // namespace trainyard::checkpoint
