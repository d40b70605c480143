#include "worker/data/sample_stream.h"

#include <algorithm>
#include <stdexcept>

#include "worker/data/permutation.h"

namespace trainyard::data {

using contract::UserError;

namespace {

std::vector<double> weights_of(const std::vector<contract::Source>& sources) {
  std::vector<double> weights;
  for (const auto& source : sources) weights.push_back(source.weight);
  return weights;
}

/// The order of pass `pass` over a source.
Permutation order_of(std::uint64_t seed, std::int32_t source, std::int64_t pass, std::int64_t num_samples) {
  const std::uint64_t key =
      mix(mix(seed) ^ mix(static_cast<std::uint64_t>(source) + 1) ^ (static_cast<std::uint64_t>(pass) << 1));
  return {num_samples, key};
}

}  // namespace

SampleSet::SampleSet(const std::string& field, const std::vector<contract::Source>& sources, std::int32_t sequence_length,
                     std::int64_t vocabulary_size)
    : sequence_length_(sequence_length) {
  std::string reason;
  std::string problems;
  const auto add = [&](const std::string& why, const std::string& problem) {
    if (reason.empty()) reason = why;
    problems += (problems.empty() ? "" : "\n") + problem;
  };
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::string name = field + "[" + std::to_string(i) + "]";
    try {
      const auto& corpus = corpora_.emplace_back(name, sources[i], vocabulary_size);
      if (corpus.num_tokens() < sequence_length + 1) {
        add("CorpusTooShort", name + ".path: " + sources[i].path + " holds " + std::to_string(corpus.num_tokens()) +
                                  " tokens, and one sample needs " + std::to_string(sequence_length + 1) +
                                  " (data.sequenceLength + 1): give more text, or lower data.sequenceLength");
        continue;
      }
      counts_.push_back((corpus.num_tokens() - 1) / sequence_length);
      num_samples_ += counts_.back();
    } catch (const UserError& error) {
      add(error.reason(), error.what());
    }
  }
  if (!problems.empty()) throw UserError(reason, problems);
}

std::vector<std::int64_t> SampleSet::num_tokens() const {
  std::vector<std::int64_t> tokens;
  for (const auto& corpus : corpora_) tokens.push_back(corpus.num_tokens());
  return tokens;
}

SampleId SampleSet::at(std::int64_t number) const {
  if (number < 0 || number >= num_samples_) throw std::invalid_argument("there is no such sample");
  std::int32_t source = 0;
  while (number >= num_samples(source)) number -= num_samples(source++);
  return {source, number};
}

Batch SampleSet::read(std::span<const SampleId> samples) const {
  const auto count = static_cast<std::int64_t>(samples.size());
  Batch batch{at::empty({count, sequence_length_}, at::kLong), at::empty({count, sequence_length_}, at::kLong)};
  std::vector<std::int64_t> text(static_cast<std::size_t>(sequence_length_) + 1);
  auto* tokens = batch.tokens_BT.data_ptr<std::int64_t>();
  auto* targets = batch.targets_BT.data_ptr<std::int64_t>();
  for (const auto& sample : samples) {
    corpora_.at(static_cast<std::size_t>(sample.source)).read(sample.index * sequence_length_, text);
    tokens = std::copy(text.begin(), text.end() - 1, tokens);
    targets = std::copy(text.begin() + 1, text.end(), targets);
  }
  return batch;
}

Batch SampleSet::read(std::int64_t first, std::int64_t count) const {
  std::vector<SampleId> samples;
  for (std::int64_t number = first; number < first + count; ++number) samples.push_back(at(number));
  return read(samples);
}

SampleStream::SampleStream(const contract::Data& data, std::int64_t vocabulary_size, std::int64_t seed)
    : set_("spec.data.train", data.train, data.sequenceLength, vocabulary_size),
      blend_(weights_of(data.train)),
      seed_(static_cast<std::uint64_t>(seed)) {}

Cursor SampleStream::begin() const {
  return {.samples = 0, .tokens = 0, .consumed = std::vector<std::int64_t>(set_.num_sources(), 0)};
}

std::vector<SampleId> SampleStream::next(Cursor& cursor, std::int64_t count) const {
  std::vector<SampleId> samples;
  samples.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t source = blend_.next(cursor.consumed);
    auto& consumed = cursor.consumed[static_cast<std::size_t>(source)];
    const std::int64_t size = set_.num_samples(source);
    samples.push_back({source, order_of(seed_, source, consumed / size, size)(consumed % size)});
    ++consumed;
  }
  cursor.samples += count;
  cursor.tokens += count * set_.sequence_length();
  return samples;
}

}  // namespace trainyard::data
