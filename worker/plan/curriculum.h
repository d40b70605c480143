#pragma once
// How long the sequences of each step are: data.curriculum. A function of the manifest and of how far the training is, so every rank knows
// the shapes of every micro-batch without a word from another.
//
// A stage cuts the samples of data.sequenceLength into sequences of its own length, which divides that: which samples a step takes, their
// order and the tokens of a step and of a micro-batch are the same in every stage, and so is what a resume has to know of the data. As
// SkyLadder (Zhu et al., arXiv:2503.15450, section 4), whose masks keep a packed sequence's pieces apart; Composer's SeqLengthWarmup without
// truncation. DeepSpeed's curriculum (Li et al., arXiv:2108.06084) cuts the ends of samples off instead, and so does not train on them.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// How far a training is, in whatever batches it came there.
struct StepsDone {
  std::int64_t steps = 0;
  std::int64_t samples = 0;  // of data.sequenceLength
};

/// Tokens a sequence of the step after `done`: of the first stage that has not ended, after all of them data.sequenceLength. A stage ends
/// with the first step after which the training has done untilStep steps, or untilTokens tokens, or untilEpoch times `samples_per_epoch`
/// samples, rounded up.
std::int32_t next_sequence_length(const contract::TrainingJobSpec& spec, const StepsDone& done, std::int64_t samples_per_epoch);

/// A micro-batch of microBatchSize samples as sequences of that length.
struct MicroBatchShape {
  std::int64_t sequences = 1;
  std::int64_t sequence_length = 0;
  bool operator==(const MicroBatchShape&) const = default;
};
/// Throws std::invalid_argument unless `sequence_length` divides data.sequenceLength.
MicroBatchShape micro_batch_shape(const contract::TrainingJobSpec& spec, std::int32_t sequence_length);

/// Steps whose sequences are of one length.
struct Stretch {
  std::int64_t steps = 0;
  std::int32_t sequence_length = 0;
  bool operator==(const Stretch&) const = default;
};
/// The steps after `done` up to step `last`, in order; the global batch stays as it is.
std::vector<Stretch> steps_ahead(const contract::TrainingJobSpec& spec, const StepsDone& done, std::int64_t last,
                                 std::int64_t samples_per_epoch);

/// Whole samples of so many epochs; bounded where no counter could hold them.
std::int64_t samples_of(double epochs, std::int64_t samples_per_epoch);

}  // namespace trainyard::plan
