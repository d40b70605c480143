#include "worker/mesh/connect.h"

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/mesh/gloo_ranks.h"
#include "worker/mesh/backend_comm.h"

namespace trainyard::mesh {
namespace {

TEST(Connect, AWorldOfOneNeedsNoNetwork) {
  auto config = config_of(0, 1, 1);
  const auto mesh = connect(config);
  at::Tensor one = at::ones({1});
  mesh->world().all_reduce(one, ReduceOp::kSum);
  EXPECT_EQ(one.item<float>(), 1);
}

TEST(Connect, FourRanksReduceGatherAndPassOnOverGloo) {
  connect_ranks(
      4, [](auto& config) { config.spec.parallelism.pipeline = 2; },
      [](Mesh& mesh) {
        for (const auto type : {at::kFloat, at::kDouble, at::kLong, at::kBFloat16}) {
          at::Tensor sum = at::full({5}, mesh.rank() + 1, type);
          mesh.world().all_reduce(sum, ReduceOp::kSum);
          EXPECT_TRUE(at::equal(sum, at::full({5}, 10, type))) << type;
        }
        std::vector<at::Tensor> out{at::empty({1}), at::empty({1})};
        mesh.data().all_gather(out, at::full({1}, double{1} * mesh.at().dp));
        EXPECT_EQ(out[1].item<float>(), 1);
        // Both send before they receive, more than sockets hold.
        const std::int32_t other = 1 - mesh.at().pp;
        at::Tensor received = at::empty({1 << 20});
        mesh.activations().send(at::full({1 << 20}, double{1} * mesh.at().pp), other, 0);
        mesh.activations().receive(received, other, 0);
        EXPECT_EQ(received[7].item<float>(), other);
        mesh.world().barrier();
      });
}

TEST(Connect, CallsThatWereStartedTogetherEndInTheirOrderOverGloo) {
  connect_ranks(
      3, [](auto&) {},
      [](Mesh& mesh) {
        Comm& group = mesh.world();
        constexpr std::int64_t kPart = 5000;
        const at::Tensor mine = at::full({kPart}, mesh.rank(), at::kBFloat16);
        const at::Tensor numbers = at::arange(3 * kPart, at::kFloat), other = numbers + 0.25f * static_cast<float>(mesh.rank());
        at::Tensor whole = at::empty({3 * kPart}, at::kBFloat16), sum = at::empty({kPart}), out = at::empty({3 * kPart});
        const auto gather = group.start_all_gather(whole, mine);
        const auto reduce = group.start_reduce_scatter(sum, numbers);
        const auto exchange = group.start_all_to_all(out, other);
        const at::Tensor thirds = (numbers + mesh.rank()) / 3;  // whose sums are rounded, by the order in which Gloo takes them
        at::Tensor started = thirds.clone(), waited = thirds.clone();
        const auto all = group.start_all_reduce(started, ReduceOp::kSum);
        at::Tensor one = at::ones({1});
        mesh.world().all_reduce(one, ReduceOp::kSum);
        EXPECT_EQ(one.item<float>(), 3);
        reduce->wait();
        gather->wait();
        exchange->wait();
        all->wait();
        group.all_reduce(waited, ReduceOp::kSum);
        EXPECT_TRUE(at::equal(started, waited)) << "the same bits";
        for (std::int32_t rank = 0; rank < 3; ++rank) {
          EXPECT_TRUE(at::equal(whole.narrow(0, rank * kPart, kPart), at::full({kPart}, rank, at::kBFloat16)));
          EXPECT_TRUE(at::equal(out.narrow(0, rank * kPart, kPart),
                                numbers.narrow(0, mesh.rank() * kPart, kPart) + 0.25f * static_cast<float>(rank)));
        }
        EXPECT_TRUE(at::equal(sum, numbers.narrow(0, mesh.rank() * kPart, kPart) * 3));
        mesh.world().barrier();
      });
}

TEST(Connect, AnswersACallThatWasStartedWithARankThatLeftWithPeerLost) {
  std::optional<std::string> message;
  connect_ranks(
      2, [](auto&) {},
      [&](Mesh& mesh) {
        mesh.world().barrier();
        if (mesh.rank() == 1) return;
        at::Tensor sum = at::empty({4});
        try {
          mesh.data().start_reduce_scatter(sum, at::ones({8}))->wait();
        } catch (const PeerLost& error) {
          message = error.what();
        }
      });
  ASSERT_TRUE(message);
  EXPECT_EQ(message->rfind("Gloo reduce_scatter of data, ranks 0 and 1, as rank 0: ", 0), 0u) << *message;
}

TEST(Connect, ThreeStagesWithATiedEmbeddingMeetAndLeaveTogether) {
  std::atomic<int> left = 0;
  connect_ranks(
      3,
      [](auto& config) {
        config.spec.parallelism.pipeline = 3;
        config.spec.model.size = contract::ModelSize{.layers = 3, .tieEmbeddings = true};
      },
      [&](Mesh& mesh) {
        if (mesh.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(200));
        ++left;
        mesh.leave();
        EXPECT_EQ(left, 3);
      });
}

TEST(Connect, WorksOverIpv6) {
  connect_ranks(
      2,
      [](auto& config) {
        config.rendezvous.host = "::1";
        config.bindAddress = "::1";
      },
      [](Mesh& mesh) {
        at::Tensor sum = at::full({5}, mesh.rank() + 1.0);
        mesh.world().all_reduce(sum, ReduceOp::kSum);
        EXPECT_EQ(sum[3].item<double>(), 3);
      });
}

TEST(Connect, AnswersARankThatLeftWithPeerLost) {
  std::optional<std::string> message;
  connect_ranks(
      2, [](auto&) {},
      [&](Mesh& mesh) {
        mesh.world().barrier();
        if (mesh.rank() == 1) return;  // its sockets close
        try {
          mesh.data().barrier();
        } catch (const PeerLost& error) {
          message = error.what();
        }
      });
  ASSERT_TRUE(message);
  EXPECT_EQ(message->rfind("Gloo all_reduce of data, ranks 0 and 1, as rank 0: ", 0), 0u) << *message;
}

TEST(Connect, AnswersASendToARankThatLeftWithPeerLost) {
  std::optional<std::string> message;
  connect_ranks(
      2, [](auto& config) { config.spec.parallelism.pipeline = 2; },
      [&](Mesh& mesh) {
        mesh.world().barrier();
        if (mesh.rank() == 1) return;
        try {
          for (int i = 0; i < 1000; ++i) mesh.activations().send(at::zeros({1 << 16}), 1, i);
        } catch (const PeerLost& error) {
          message = error.what();
        }
      });
  ASSERT_TRUE(message);
  EXPECT_EQ(message->rfind("Gloo send to rank 1 of activations, ranks 0 and 1, as rank 0: ", 0), 0u) << *message;
}

TEST(Connect, NamesTheRanksOfALostCallByTheWorldsNumbers) {
  std::optional<std::string> of_all, of_one;
  connect_ranks(
      4,
      [](auto& config) {
        config.spec.parallelism.pipeline = 2;
        config.spec.parallelism.tensor = 2;
      },
      [&](Mesh& mesh) {
        mesh.world().barrier();
        if (mesh.rank() == 3) return;
        const auto words_of = [](const auto& call) -> std::optional<std::string> {
          try {
            call();
          } catch (const PeerLost& error) {
            return error.what();
          }
          return std::nullopt;
        };
        at::Tensor ones = at::ones({4});
        if (mesh.rank() == 2) of_all = words_of([&] { mesh.tensor().all_reduce(ones, ReduceOp::kSum); });
        if (mesh.rank() == 1) of_one = words_of([&] { mesh.gradients().receive(ones, 1, 0); });
      });
  ASSERT_TRUE(of_all && of_one);
  EXPECT_EQ(of_all->rfind("Gloo all_reduce of tensor, ranks 2 and 3, as rank 2: ", 0), 0u) << *of_all;
  EXPECT_EQ(of_one->rfind("Gloo receive from rank 3 of gradients, ranks 1 and 3, as rank 1: ", 0), 0u) << *of_one;
}

TEST(Connect, NamesOfManyRanksTheFirst) {
  BackendOptions options;
  options.group = "data";
  options.rank = 9;
  for (std::int32_t rank = 0; rank < 12; ++rank) options.ranks.push_back(2 * rank);
  EXPECT_EQ(place_of(options), "of data, ranks 0, 2, 4, 6, 8, 10, 12, 14 and 4 others, as rank 18");
}

TEST(Connect, DoesNotTellABugOfOneRankAsALostPeer) {
  std::atomic<int> told = 0;
  connect_ranks(
      2, [](auto&) {},
      [&](Mesh& mesh) {
        at::Tensor sum = at::ones({4}, at::kShort);  // which Gloo does not add
        try {
          mesh.world().all_reduce(sum, ReduceOp::kSum);
        } catch (const c10::Error&) {
          ++told;
        }
      });
  EXPECT_EQ(told, 2);
}

TEST(Connect, SaysThatGpusNeedABuildWithCuda) {
#ifndef TRAINYARD_CUDA
  auto config = config_of(0, 1, 1);
  config.spec.workers.gpusPerWorker = 1;
  try {
    connect(config);
    FAIL();
  } catch (const contract::UserError& error) {
    EXPECT_EQ(error.reason(), "GpuUnavailable");
    EXPECT_NE(std::string(error.what()).find("an image for GPUs"), std::string::npos) << error.what();
  }
#endif
}

TEST(Connect, SaysWhereItCouldNotListen) {
  auto config = config_of(0, 2, free_port());
  config.bindAddress = "203.0.113.1";  // not an address of this machine
  try {
    connect(config);
    FAIL();
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("listen for the other ranks at 203.0.113.1:"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace trainyard::mesh
