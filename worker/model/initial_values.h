#pragma once
// How parameters start: each element is a function of (seed, the parameter's name, its index in the unsharded tensor), so that every
// layout starts from the same numbers, and another program can compute them. No generator has a state.
//
//   mix(x)      SplitMix64's finalizer: x ^= x>>30, x *= 0xbf58476d1ce4e5b9, x ^= x>>27, x *= 0x94d049bb133111eb, x ^= x>>31
//   key         mix(FNV-1a of the name, 64 bits + mix(seed))
//   draw(n)     mix(key + (n + 1) · 0x9e3779b97f4a7c15): number n of the SplitMix64 stream that starts at key
//   element i   a = draw(2i), b = draw(2i + 1); u = (⌊a / 2^11⌋ + 1) / 2^53; v = ⌊b / 2^11⌋ / 2^53
//               standard deviation · sqrt(−2 ln u) · cos(2π v), in FP64 (Box and Muller 1958), then rounded to FP32
//
// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).

#include <cstdint>
#include <string_view>

#include <ATen/ATen.h>

#include "worker/plan/parameters.h"

namespace trainyard::model {

/// The standard normal value of element `index` of the parameter with this key.
std::uint64_t key_of(std::int64_t seed, std::string_view name);
double normal_value(std::uint64_t key, std::int64_t index);

/// 0.02, and 0.02 / sqrt(2 · layers) for outputs that are added to the residual stream.
double standard_deviation(plan::Initial initial, std::int32_t layers);

/// Fills `local`, FP32 with the box's sizes on any device, with the box's elements of `parameter`.
void fill_initial_values(at::Tensor& local, const plan::Parameter& parameter, const plan::Box& box, std::int64_t seed,
                         std::int32_t layers);

}  // namespace trainyard::model
