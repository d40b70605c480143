#include "worker/checkpoint/staging.h"

#include <algorithm>
#include <thread>

#include <gtest/gtest.h>

namespace trainyard::checkpoint {
namespace {

using std::chrono::steady_clock;

steady_clock::time_point never() { return steady_clock::now() + std::chrono::hours(24); }

at::Tensor numbers(const std::vector<std::int64_t>& shape, at::ScalarType type = at::kFloat) {
  return at::arange(1, num_elements(shape) + 1, at::kDouble).reshape(shape).to(type);
}

/// Every kind: rows that fit into the smallest chunk, rows that don't, one dimension, none, nothing in it, strides, two other types; in the
/// middle of a larger tensor, and whole.
std::vector<TensorShard> shards() {
  const at::Tensor columns = numbers({6, 7}).narrow(1, 2, 3);
  return {{.name = "matrix", .local = numbers({5, 3}), .global_shape = {9, 8}, .offset = {2, 4}},
          {.name = "long rows", .local = numbers({2, 1, 50}), .global_shape = {2, 2, 60}, .offset = {0, 1, 10}},
          {.name = "vector", .local = numbers({101}, at::kBFloat16), .global_shape = {101}, .offset = {0}},
          {.name = "scalar", .local = at::scalar_tensor(7, at::kLong), .global_shape = {}, .offset = {}},
          {.name = "empty", .local = numbers({0, 4}), .global_shape = {8, 4}, .offset = {8, 0}},
          {.name = "columns", .local = columns, .global_shape = {6, 7}, .offset = {0, 2}},
          {.name = "another's", .local = numbers({4}), .global_shape = {4}, .offset = {0}, .writes = false},
          {.name = "codes", .local = numbers({1, 33}, at::kByte), .global_shape = {1, 33}, .offset = {0, 0}}};
}

/// What a helper got of each tensor, one part behind the other.
struct Written {
  std::vector<std::string> bytes;
  std::vector<std::size_t> order;
  bool is_whole = false;
};

Written write_all(Staging& staging, const std::vector<TensorShard>& sources) {
  Written out;
  out.bytes.resize(staging.tensors().size());
  out.is_whole = staging.write(
      [&](std::size_t tensor, const Box& box, const at::Tensor& part) {
        out.order.push_back(tensor);
        EXPECT_EQ(box.shape, part.sizes().vec());
        EXPECT_TRUE(part.is_contiguous());
        out.bytes[tensor].append(static_cast<const char*>(part.const_data_ptr()), part.nbytes());
        // The part is that of its box.
        for (const auto& source : sources) {
          if (source.name != staging.tensors()[tensor].name) continue;
          EXPECT_TRUE(view_of(source.local, source.offset, box).equal(part)) << source.name;
        }
      },
      {});
  return out;
}

std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.contiguous();
  return {static_cast<const char*>(whole.const_data_ptr()), whole.nbytes()};
}

TEST(Staging, GivesEveryByteOnceAndInTheOrderOfTheFileHoweverLittleMemoryItHas) {
  for (const std::int64_t most : {128, 200, 500, 1000, 4096, 1 << 20}) {
    SCOPED_TRACE(most);
    const auto sources = shards();
    Staging staging(sources, most);
    EXPECT_LE(staging.memory_bytes(), most);
    Written written;
    {
      std::jthread writer([&] { written = write_all(staging, sources); });
      EXPECT_TRUE(staging.copy(never()));
    }
    EXPECT_TRUE(written.is_whole);
    EXPECT_TRUE(std::is_sorted(written.order.begin(), written.order.end()));
    std::size_t at = 0;
    for (const auto& source : sources) {
      if (!source.writes || source.local.numel() == 0) continue;
      ASSERT_LT(at, staging.tensors().size());
      EXPECT_EQ(staging.tensors()[at].name, source.name);
      EXPECT_EQ(written.bytes[at++], bytes_of(source.local)) << source.name;
    }
    EXPECT_EQ(at, staging.tensors().size());
  }
}

TEST(Staging, CopiesNoMoreThanItHasMemoryForUntilSomebodyWrites) {
  auto sources = shards();
  Staging staging(sources, 256);
  EXPECT_FALSE(staging.copy(steady_clock::now()));
  EXPECT_FALSE(staging.copy(steady_clock::now())) << "nobody has written anything";
  EXPECT_EQ(staging.memory_bytes(), 256);
  // What it has copied so far is as it was, the rest as it is now.
  sources[0].local.fill_(0);
  sources[5].local.fill_(0);
  Written written;
  {
    std::jthread writer([&] { written = write_all(staging, {}); });
    EXPECT_TRUE(staging.copy(never()));
  }
  EXPECT_EQ(written.bytes[0], bytes_of(numbers({5, 3})));
  EXPECT_EQ(written.bytes[4], bytes_of(sources[5].local));
}

TEST(Staging, OfWhatFitsIsDoneBeforeAnythingIsWritten) {
  const auto sources = shards();
  Staging staging(sources, 1 << 20);
  EXPECT_TRUE(staging.copy(steady_clock::now()));
  for (const auto& source : sources) source.local.zero_();  // training goes on
  const auto written = write_all(staging, {});
  EXPECT_TRUE(written.is_whole);
  EXPECT_EQ(written.bytes[1], bytes_of(numbers({2, 1, 50})));
  EXPECT_EQ(written.bytes[4], bytes_of(numbers({6, 7}).narrow(1, 2, 3)));
}

TEST(Staging, WaitsForNobodyWhoWillNotWrite) {
  Staging staging(shards(), 128);
  std::jthread writer([&] {
    int parts = 0;
    EXPECT_THROW(staging.write(
                     [&](std::size_t, const Box&, const at::Tensor&) {
                       if (++parts == 3) throw std::runtime_error("the disk is full");
                     },
                     {}),
                 std::runtime_error);
    staging.end();
  });
  EXPECT_TRUE(staging.copy(never()));
}

TEST(Staging, IsCutShortWhereACopyFails) {
  auto sources = shards();
  sources[2].local = at::empty({101}, at::TensorOptions().dtype(at::kBFloat16).device(at::kMeta));  // has no numbers
  Staging staging(sources, 128);
  Written written;
  {
    std::jthread writer([&] { written = write_all(staging, {}); });
    EXPECT_THROW(staging.copy(never()), std::exception);
  }
  EXPECT_FALSE(written.is_whole);
}

TEST(Staging, IsCutShortWhenItIsToldTo) {
  Staging staging(shards(), 128);
  std::stop_source stop;
  int parts = 0;
  std::jthread writer([&] {
    EXPECT_FALSE(staging.write(
        [&](std::size_t, const Box&, const at::Tensor&) {
          if (++parts == 3) stop.request_stop();
        },
        stop.get_token()));
    EXPECT_EQ(parts, 3);
    staging.end();
  });
  EXPECT_TRUE(staging.copy(never()));
}

TEST(Staging, RefusesMemoryThatHoldsNoChunks) { EXPECT_THROW(Staging(shards(), 127), std::invalid_argument); }

}  // namespace
}  // namespace trainyard::checkpoint
