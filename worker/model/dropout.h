#pragma once
// Dropout whose random numbers belong to the number that they drop, not to a generator: to its place in the model and in the training
// data. So every layout, pipeline schedule, recomputation and resume drops the same ones, and nothing is kept for the backward pass.
// Source: Srivastava et al., "Dropout", JMLR 15 (2014), scaled in training as torch.nn.functional.dropout does.

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace trainyard::model {

/// What decides about the numbers of one activation.
struct DropoutPlace {
  std::uint64_t seed = 0;
  std::uint32_t site = 0;        // in the model: see dropout_sites()
  std::int64_t first_token = 0;  // the number of the activation's first token among all tokens of the training
};

/// Sites of the model, counted through all its layers: 0 behind the embedding, then two a layer.
struct DropoutSites {
  std::uint32_t attention = 0, feed_forward = 0;
};
inline DropoutSites dropout_sites(std::int32_t layer) {
  const auto first = 1 + 2 * static_cast<std::uint32_t>(layer);
  return {.attention = first, .feed_forward = first + 1};
}

/// What a number is multiplied with: 0 where its random word is below `threshold`, else `scale`.
struct DropoutNumbers {
  std::uint32_t threshold = 0;  // rate · 2^32, to the nearest
  float scale = 1;              // 1 / (1 − rate)
};
DropoutNumbers dropout_numbers(double rate);

/// x_BTD with some numbers 0 and the others times 1 / (1 − rate), in FP32 and rounded to x's type; its gradient likewise. 0 <= rate < 1.
/// Feature d of token t, counted through the rows from first_token on, has word d mod 4 of philox({t, t >> 32, d / 4, site}, seed).
at::Tensor dropout(const at::Tensor& x_BTD, double rate, const DropoutPlace& place);

}  // namespace trainyard::model
