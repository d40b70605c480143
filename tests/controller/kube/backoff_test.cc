#include "controller/kube/backoff.h"

#include <gtest/gtest.h>

namespace trainyard::kube {
namespace {

using namespace std::chrono_literals;

TEST(Backoff, DoublesUpToItsBoundWithJitter) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    Backoff backoff({.first = 200ms, .last = 5'000ms}, std::mt19937(seed));
    for (const auto step : {200ms, 400ms, 800ms, 1'600ms, 3'200ms, 5'000ms, 5'000ms}) {
      const auto wait = backoff.next();
      EXPECT_GE(wait, step / 2) << "seed " << seed;
      EXPECT_LE(wait, step) << "seed " << seed;
    }
  }
}

TEST(Backoff, StartsAnewAfterASuccess) {
  Backoff backoff({.first = 200ms, .last = 5'000ms}, std::mt19937(1));
  backoff.next();
  backoff.next();
  backoff.reset();
  EXPECT_LE(backoff.next(), 200ms);
}

}  // namespace
}  // namespace trainyard::kube
