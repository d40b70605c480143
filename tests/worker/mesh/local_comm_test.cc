#include "worker/mesh/local_comm.h"

#include <stdexcept>

#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"
#include "tests/worker/model/live_bytes.h"

namespace trainyard::mesh {
namespace {

contract::Layout ranks(std::int32_t dp) { return contract::Layout({.dp = dp}, dp); }

TEST(LocalComm, AllReduceAddsAndTakesTheLargest) {
  run_ranks(ranks(4), [](Mesh& mesh) {
    for (int round = 0; round < 20; ++round) {
      at::Tensor sum = at::full({3}, mesh.rank() + round);
      mesh.world().all_reduce(sum, ReduceOp::kSum);
      EXPECT_TRUE(at::equal(sum, at::full({3}, 6 + 4 * round)));
      at::Tensor most = at::full({1}, mesh.rank(), at::kLong);
      mesh.world().all_reduce(most, ReduceOp::kMax);
      EXPECT_EQ(most.item<std::int64_t>(), 3);
    }
  });
}

TEST(LocalComm, GathersInRankOrder) {
  run_ranks(ranks(3), [](Mesh& mesh) {
    std::vector<at::Tensor> out(3);
    for (auto& tensor : out) tensor = at::empty({2});
    mesh.world().all_gather(out, at::full({2}, mesh.rank()));
    for (int rank = 0; rank < 3; ++rank) EXPECT_TRUE(at::equal(out[static_cast<std::size_t>(rank)], at::full({2}, rank)));
  });
}

TEST(LocalComm, PutsPartsTogetherAndSumsAndExchangesThem) {
  run_ranks(ranks(3), [](Mesh& mesh) {
    Comm& group = mesh.world();
    at::Tensor whole = at::empty({6}), part = at::empty({2}), out = at::empty({6});
    group.start_all_gather(whole, at::full({2}, mesh.rank(), at::kFloat))->wait();
    EXPECT_TRUE(at::equal(whole, at::tensor({0.f, 0.f, 1.f, 1.f, 2.f, 2.f})));
    at::Tensor sum = at::full({2}, mesh.rank(), at::kFloat), most = sum.clone();
    group.start_all_reduce(sum, ReduceOp::kSum)->wait();
    group.start_all_reduce(most, ReduceOp::kMax)->wait();
    EXPECT_TRUE(at::equal(sum, at::full({2}, 3.f)) && at::equal(most, at::full({2}, 2.f)));
    group.start_reduce_scatter(part, at::arange(6, at::kFloat) * (mesh.rank() + 1))->wait();
    EXPECT_TRUE(at::equal(part, at::tensor({0.f, 1.f}) * 6 + 12 * mesh.rank()));
    group.start_all_to_all(out, at::arange(6, at::kFloat) + 10 * mesh.rank())->wait();
    EXPECT_TRUE(at::equal(out, at::tensor({0.f, 1.f, 10.f, 11.f, 20.f, 21.f}) + 2 * mesh.rank()));
  });
}

TEST(LocalComm, BroadcastsWhatTheRootHas) {
  run_ranks(ranks(3), [](Mesh& mesh) {
    at::Tensor value = at::full({2}, mesh.rank());
    mesh.world().broadcast(value, 2);
    EXPECT_TRUE(at::equal(value, at::full({2}, 2)));
  });
}

TEST(LocalComm, SendsDoNotWaitAndAreToldApartByTheirTags) {
  run_ranks(ranks(2), [](Mesh& mesh) {
    const std::int32_t other = 1 - mesh.rank();
    mesh.world().send(at::full({1}, 10 + mesh.rank()), other, 1);
    mesh.world().send(at::full({1}, 20 + mesh.rank()), other, 2);
    at::Tensor second = at::empty({1}), first = at::empty({1});
    mesh.world().receive(second, other, 2);
    mesh.world().receive(first, other, 1);
    EXPECT_EQ(first.item<float>(), 10 + other);
    EXPECT_EQ(second.item<float>(), 20 + other);
  });
}

TEST(LocalComm, ARankThatEndsIsLostToTheOthers) {
  LocalWorld world;
  const auto group = world.make_group(2);
  std::string message;
  std::jthread survivor([&] {
    try {
      group[0]->barrier();
    } catch (const PeerLost& error) {
      message = error.what();
    }
  });
  world.lose("rank 1 ended");
  survivor.join();
  EXPECT_EQ(message, "collective of threads: rank 1 ended");
}

TEST(ASoloComm, TakesNoMemory) {
  const test::LiveBytes live;
  const at::Tensor in = at::arange(1000, at::kFloat);
  at::Tensor out = at::empty({1000}), sum = in.clone();
  std::vector<at::Tensor> gathered{at::empty({1000})};
  const auto comm = solo_comm();
  test::LiveBytes::take_peak();
  const std::int64_t before = test::LiveBytes::now();
  for (const auto start : {&Comm::start_all_gather, &Comm::start_reduce_scatter, &Comm::start_all_to_all}) {
    out.zero_();
    (comm.get()->*start)(out, in)->wait();
    EXPECT_TRUE(at::equal(out, in));
  }
  comm->all_gather(gathered, in);
  comm->all_reduce(sum, ReduceOp::kSum);
  comm->start_all_reduce(sum, ReduceOp::kSum)->wait();
  comm->broadcast(sum, 0);
  EXPECT_LT(test::LiveBytes::take_peak() - before, 100) << "one number of equal() at the most";
  EXPECT_TRUE(at::equal(gathered[0], in) && at::equal(sum, in));
}

TEST(RunRanks, ThrowsTheFirstCauseAndNotWhatFollowedFromIt) {
  EXPECT_THROW(run_ranks(ranks(3),
                         [](Mesh& mesh) {
                           if (mesh.rank() == 1) throw std::domain_error("the cause");
                           mesh.world().barrier();
                         }),
               std::domain_error);
}

TEST(MakeMeshes, GroupsAreThoseOfTheLayoutForEveryLayoutOfUpToEightRanks) {
  for (std::int32_t pp = 1; pp <= 8; ++pp) {
    for (std::int32_t dp = 1; pp * dp <= 8; ++dp) {
      for (std::int32_t tp = 1; pp * dp * tp <= 8; ++tp) {
        const contract::Layout layout({.pp = pp, .dp = dp, .tp = tp}, pp * dp * tp);
        run_ranks(layout, [&](Mesh& mesh) {
          const auto sum_of = [&](contract::Axis axis) {
            double sum = 0;
            for (const auto rank : layout.group(axis, mesh.rank())) sum += 1 << rank;
            return sum;
          };
          const auto sum_over = [&](Comm& comm) {
            at::Tensor mine = at::full({1}, 1 << mesh.rank(), at::kDouble);
            comm.all_reduce(mine, ReduceOp::kSum);
            return mine.item<double>();
          };
          EXPECT_EQ(sum_over(mesh.data()), sum_of(contract::Axis::kDp));
          EXPECT_EQ(sum_over(mesh.tensor()), sum_of(contract::Axis::kTp));
          EXPECT_EQ(sum_over(mesh.pipeline()), sum_of(contract::Axis::kPp));
          EXPECT_EQ(sum_over(mesh.world()), (1 << layout.world_size()) - 1);
        });
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::mesh
