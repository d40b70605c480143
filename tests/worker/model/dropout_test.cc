#include "worker/model/dropout.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "worker/model/philox.h"

namespace trainyard::model {
namespace {

std::vector<std::uint32_t> words(PhiloxWords number, std::uint64_t key) {
  const auto out = philox(number, key);
  return {out.at, out.at + 4};
}

TEST(Philox, GivesThePublishedAnswers) {  // of Random123, kat_vectors
  EXPECT_EQ(words({{0, 0, 0, 0}}, 0), (std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t all = 0xffffffff;
  EXPECT_EQ(words({{all, all, all, all}}, ~std::uint64_t{0}),
            (std::vector<std::uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822),
            (std::vector<std::uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Dropout, DropsItsShareAndScalesTheRest) {
  const at::Tensor x = at::ones({4, 500, 102});
  for (const double rate : {0.1, 0.5, 0.9}) {
    const at::Tensor out = dropout(x, rate, {.seed = 7, .site = 3, .first_token = 100});
    const double dropped = out.eq(0).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(dropped, rate, 4 * std::sqrt(rate * (1 - rate) / static_cast<double>(x.numel())));
    EXPECT_TRUE(at::equal(out, out.ne(0) * static_cast<float>(1 / (1 - rate))));
  }
}

TEST(Dropout, HasAnotherMaskForEachSeedSiteAndToken) {
  const at::Tensor x = at::ones({1, 64, 64});
  const DropoutPlace place{.seed = 1, .site = 2, .first_token = 0};
  const at::Tensor mask = dropout(x, 0.5, place).ne(0);
  const auto shared = [&](const DropoutPlace& other) {
    return dropout(x, 0.5, other).ne(0).eq(mask).to(at::kDouble).mean().item<double>();
  };
  EXPECT_EQ(shared(place), 1);
  for (const auto& other :
       {DropoutPlace{.seed = 2, .site = 2, .first_token = 0}, DropoutPlace{.seed = 1, .site = 3, .first_token = 0},
        DropoutPlace{.seed = 1, .site = 2, .first_token = 64},
        DropoutPlace{.seed = 1, .site = 2, .first_token = std::int64_t{1} << 32},
        DropoutPlace{.seed = (std::uint64_t{1} << 32) + 1, .site = 2, .first_token = 0}}) {
    EXPECT_NEAR(shared(other), 0.5, 0.05);
  }
}

TEST(Dropout, OfSomeTokensIsThatOfAllOfThemHoweverTheyAreCutIntoRows) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor x =
        at::arange(6 * 8 * 10, at::kFloat).sin().view({6, 8, 10}).to(type);  // 10: the last words are not all needed
    const at::Tensor whole = dropout(x, 0.3, {.seed = 5, .site = 1, .first_token = 1000});
    EXPECT_TRUE(
        at::equal(dropout(x.narrow(0, 2, 3), 0.3, {.seed = 5, .site = 1, .first_token = 1000 + 2 * 8}), whole.narrow(0, 2, 3)));
    EXPECT_TRUE(
        at::equal(dropout(x.view({12, 4, 10}), 0.3, {.seed = 5, .site = 1, .first_token = 1000}).view({6, 8, 10}), whole));
    at::set_num_threads(3);
    EXPECT_TRUE(at::equal(dropout(x, 0.3, {.seed = 5, .site = 1, .first_token = 1000}), whole));
    at::set_num_threads(1);
  }
}

TEST(Dropout, DropsOfTheGradientWhatItDroppedOfTheNumbers) {
  const at::Tensor x = at::full({2, 5, 6}, 2.0).requires_grad_();
  const at::Tensor out = dropout(x, 0.5, {.seed = 5, .site = 1, .first_token = 0});
  out.backward(at::full({2, 5, 6}, 3.0));
  EXPECT_TRUE(at::equal(x.grad(), out.detach() * 1.5));
}

TEST(Dropout, RefusesWhatIsNoProbabilityBelowOne) {
  EXPECT_THROW(dropout_numbers(1), c10::Error);
  EXPECT_THROW(dropout_numbers(-0.1), c10::Error);
}

}  // namespace
}  // namespace trainyard::model
