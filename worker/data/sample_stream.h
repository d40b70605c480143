#pragma once
// The samples of a training in their global order, which depends on the data and the seed alone, never on layout, batch size or
// resumes. A training loop takes a step's samples off the stream, and reads those that its data rank owns:
//
//   const auto step = stream.next(cursor, global_batch);                     // every rank: all samples of the step, as names
//   for (const auto& range : micro_batches(global_batch, dp, dp_rank, micro_batch).ranges)
//     const Batch batch = stream.read({step.data() + range.first, static_cast<std::size_t>(range.count)});

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/data/blend.h"
#include "worker/data/corpus.h"

namespace trainyard::data {

/// How much of the stream was trained on; part of a checkpoint (docs/formats.md).
struct Cursor {
  std::int64_t samples = 0;            // the global sample number of the next sample
  std::int64_t tokens = 0;             // predicted so far
  std::vector<std::int64_t> consumed;  // samples of each source of data.train, in order

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("samples", self.samples);
    field("tokens", self.tokens);
    field("consumed", self.consumed);
  }
  bool operator==(const Cursor&) const = default;
};

/// Sample `index` of a source: its tokens from index · sequenceLength on, sequenceLength + 1 of them.
struct SampleId {
  std::int32_t source = 0;
  std::int64_t index = 0;
  auto operator<=>(const SampleId&) const = default;
};

/// Letters: B samples, T = sequenceLength. Both are int64 on the CPU; targets_BT are tokens_BT one position on.
struct Batch {
  at::Tensor tokens_BT;
  at::Tensor targets_BT;
};

/// A list of sources cut into samples: what training and validation share. Immutable; any thread may read.
class SampleSet {
 public:
  /// `field` is `data.train` or `data.validation`. Throws UserError, with the problems of all sources at once: see Corpus; and when a
  /// source is too short for one sample, which needs sequenceLength + 1 tokens.
  SampleSet(const std::string& field, const std::vector<contract::Source>& sources, std::int32_t sequence_length,
            std::int64_t vocabulary_size);

  std::int32_t sequence_length() const { return sequence_length_; }
  std::int64_t num_samples() const { return num_samples_; }
  std::int64_t num_samples(std::int32_t source) const { return counts_[static_cast<std::size_t>(source)]; }
  std::size_t num_sources() const { return counts_.size(); }
  /// Of each source, in order.
  std::vector<std::int64_t> num_tokens() const;
  /// Sample `number` of [0, num_samples()), source after source: the order in which an evaluation reads, each sample once.
  SampleId at(std::int64_t number) const;
  Batch read(std::span<const SampleId> samples) const;
  /// Samples [first, first + count) of the order of at().
  Batch read(std::int64_t first, std::int64_t count) const;

 private:
  std::int32_t sequence_length_;
  std::int64_t num_samples_ = 0;
  std::vector<std::int64_t> counts_;
  std::vector<Corpus> corpora_;
};

class SampleStream {
 public:
  /// Opens data.train. Throws UserError as SampleSet does.
  SampleStream(const contract::Data& data, std::int64_t vocabulary_size, std::int64_t seed);

  /// One pass over as many samples as all sources hold.
  std::int64_t samples_per_epoch() const { return set_.num_samples(); }
  /// Where a new training begins.
  Cursor begin() const;
  /// The next `count` samples, and the cursor behind them. Sources are blended by weight; sample n of a source is place n of a
  /// permutation of its samples that is drawn anew, by seed, for each pass over it.
  std::vector<SampleId> next(Cursor& cursor, std::int64_t count) const;
  Batch read(std::span<const SampleId> samples) const { return set_.read(samples); }
  const SampleSet& set() const { return set_; }

 private:
  SampleSet set_;
  Blend blend_;
  std::uint64_t seed_;
};

}  // namespace trainyard::data
