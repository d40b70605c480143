#include "worker/optim/offloaded_adamw.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/late_link.h"
#include "tests/worker/optim/adamw_options.h"
#include "worker/optim/adamw.h"

namespace trainyard::optim {
namespace {

/// Sizes below, at and beyond a piece and a block, none of them a multiple of a vector's; and one of which this rank has nothing.
const std::vector<std::vector<std::int64_t>> kSizes{
    {5}, {0, 8}, {3, kAdamWPiece}, {7, 333}, {kAdamWPiece}, {2 * kAdamWPiece + 13}, {1}, {200, 333}};

/// That of moments in codes: of matrices, whose rows are cut into blocks.
std::int64_t segment_of(const std::vector<std::int64_t>& sizes) {
  if (sizes.size() < 2) return 0;
  return sizes[1] % 256 == 0 ? 256 : sizes[1];
}

at::Tensor values(const std::vector<std::int64_t>& sizes, double phase) {
  std::int64_t count = 1;
  for (const auto size : sizes) count *= size;
  return at::arange(count, at::kFloat).mul(0.37).add(phase).sin().view(sizes);
}

/// The optimizers of equal tensors, beside each other.
struct Pair {
  Pair(mesh::HostLink& link, at::ScalarType type, bool weights_on_host, at::ScalarType states = at::kFloat) {
    std::vector<Trained> plain, offloaded;
    for (const auto& sizes : kSizes) {
      const bool decays = sizes.size() > 1;
      masters.push_back(values(sizes, 1));
      plain.push_back({.master = masters.back(), .decays = decays, .weight = {}, .segment = segment_of(sizes)});
      on_host.push_back(link.memory(sizes, at::kFloat).copy_(masters.back()));
      weights.push_back(at::zeros(sizes, type));
      offloaded.push_back({.master = on_host.back(), .decays = decays, .weight = weights.back(), .segment = segment_of(sizes)});
    }
    by_operations = std::make_unique<AdamW>(adamw_options(), plain, states);
    by_blocks = std::make_unique<AdamW>(adamw_options(), offloaded, HostSide{.link = &link, .weights = weights_on_host}, states);
  }
  void step(int number) {
    std::vector<at::Tensor> gradients, same;
    for (const auto& sizes : kSizes) {
      gradients.push_back(values(sizes, number + 0.5));
      same.push_back(gradients.back().clone());
    }
    by_blocks->step(gradients, 0.01 / number, 0.7);
    for (std::size_t i = 0; i < same.size(); ++i) EXPECT_TRUE(at::equal(gradients[i], same[i])) << "gradients stay";
    by_operations->step(same, 0.01 / number, 0.7);
  }
  void expect_equal() const {
    for (std::size_t i = 0; i < masters.size(); ++i) {
      EXPECT_TRUE(at::equal(on_host[i], masters[i])) << i;
      EXPECT_TRUE(at::equal(by_blocks->averages()[i], by_operations->averages()[i])) << i;
      EXPECT_TRUE(at::equal(by_blocks->squares()[i], by_operations->squares()[i])) << i;
      EXPECT_EQ(by_blocks->averages()[i].scalar_type(), by_operations->averages()[i].scalar_type()) << i;
      if (by_operations->average_scales()[i].defined()) {
        EXPECT_TRUE(at::equal(by_blocks->average_scales()[i], by_operations->average_scales()[i])) << i;
        EXPECT_TRUE(at::equal(by_blocks->square_scales()[i], by_operations->square_scales()[i])) << i;
      }
      EXPECT_TRUE(at::equal(weights[i], masters[i].to(weights[i].scalar_type()))) << i;
    }
  }
  std::vector<at::Tensor> masters, on_host, weights;
  std::unique_ptr<AdamW> by_operations, by_blocks;
};

TEST(OffloadedAdamW, GivesTheNumbersOfAdamWWithMomentsInBf16) {
  at::set_num_threads(1);
  for (const bool weights_on_host : {false, true}) {
    const auto link = mesh::host_link(at::kCPU);
    Pair pair(*link, at::kBFloat16, weights_on_host, at::kBFloat16);
    for (int step = 1; step <= 4; ++step) pair.step(step);
    pair.expect_equal();
  }
}

TEST(OffloadedAdamW, GivesTheNumbersOfAdamWWithMomentsInCodesHoweverLargeABlockIs) {
  at::set_num_threads(1);
  for (const bool weights_on_host : {false, true}) {
    const auto link = mesh::host_link(at::kCPU);
    Pair pair(*link, at::kBFloat16, weights_on_host, at::kByte);
    EXPECT_EQ(pair.by_blocks->averages()[2].scalar_type(), at::kByte);
    for (int step = 1; step <= 4; ++step) pair.step(step);
    pair.expect_equal();
  }
  for (const std::int64_t block : {kAdamWPiece, 3 * kAdamWPiece, std::int64_t{1}}) {
    mesh::LateLink link(block);
    Pair pair(link, at::kBFloat16, false, at::kByte);
    for (int step = 1; step <= 4; ++step) pair.step(step);
    pair.expect_equal();
  }
}

TEST(OffloadedAdamW, GivesTheNumbersOfAdamWAndTheWeights) {
  at::set_num_threads(1);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const bool weights_on_host : {false, true}) {
      const auto link = mesh::host_link(at::kCPU);
      Pair pair(*link, type, weights_on_host);
      EXPECT_TRUE(pair.by_blocks->writes_weights());
      for (int step = 1; step <= 4; ++step) pair.step(step);
      pair.expect_equal();
    }
  }
}

TEST(OffloadedAdamW, UsesNoBlockBeforeItCameAndNoRoomBeforeItIsFree) {
  at::set_num_threads(1);
  for (const std::int64_t block : {kAdamWPiece, 3 * kAdamWPiece, std::int64_t{1}}) {
    mesh::LateLink link(block);
    Pair pair(link, at::kBFloat16, false);
    for (int step = 1; step <= 4; ++step) pair.step(step);
    pair.expect_equal();
  }
}

TEST(OffloadedAdamW, GivesTheSameNumbersOnSeveralCores) {
  at::set_num_threads(3);
  const auto link = mesh::host_link(at::kCPU);
  Pair pair(*link, at::kBFloat16, false);
  at::set_num_threads(1);
  for (int step = 1; step <= 4; ++step) pair.step(step);
  pair.expect_equal();
}

TEST(OffloadedAdamW, StagesABlockAtATimeHoweverLargeTheModel) {
  at::set_num_threads(1);
  std::atomic<std::int64_t> bytes = 0;
  mesh::LateLink link(kAdamWPiece, &bytes);
  std::vector<at::Tensor> masters;
  for (int i = 0; i < 20; ++i) masters.push_back(at::zeros({kAdamWPiece + 1}));
  const OffloadedAdamW offloaded(link, masters, std::vector<std::int64_t>(20, 0), at::kBFloat16, false);
  EXPECT_EQ(bytes, 3 * kAdamWPiece * 2);
}

TEST(OffloadedAdamW, StagesNothingWhereTheWeightsStayOnTheHost) {
  std::atomic<std::int64_t> bytes = 0;
  mesh::LateLink link(kAdamWPiece, &bytes);
  const OffloadedAdamW offloaded(link, {at::zeros({3 * kAdamWPiece})}, {0}, at::kBFloat16, true);
  EXPECT_EQ(bytes, 0);
}

TEST(Cores, DoEachTaskOnce) {
  for (const int count : {1, 4}) {
    at::set_num_threads(count);
    Cores cores;
    at::set_num_threads(1);
    for (const std::int64_t tasks : {0, 1, 3, 100}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(tasks));
      cores.share(tasks, [&](std::int64_t i) { ++done[static_cast<std::size_t>(i)]; });
      for (const auto& times : done) EXPECT_EQ(times, 1);
    }
  }
}

TEST(Cores, PassOnWhatATaskThrowsOnWhicheverOfThem) {
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    Cores cores;
    at::set_num_threads(1);
    for (int i = 0; i < 20; ++i) {
      const auto fail_one = [&](std::int64_t task) {
        if (task == 2 * i) throw std::bad_alloc();
      };
      EXPECT_THROW(cores.share(50, fail_one), std::bad_alloc);
    }
    std::atomic<int> done = 0;
    cores.share(50, [&](std::int64_t) { ++done; });
    EXPECT_EQ(done, 50);
  }
}

}  // namespace
}  // namespace trainyard::optim
