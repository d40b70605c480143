#pragma once
// N ranks as N threads, and a small training's tensors cut in several ways over them.

#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "worker/checkpoint/checkpointer.h"
#include "worker/mesh/local_comm.h"

namespace trainyard::checkpoint {

/// Runs `body` on each rank and waits for all; throws what the lowest rank that failed threw.
inline void run_ranks(std::int32_t size, const std::function<void(mesh::Comm&)>& body) {
  mesh::LocalWorld world;
  auto comms = world.make_group(size);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < comms.size(); ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(*comms[rank]);
        } catch (...) {
          errors[rank] = std::current_exception();
        }
      });
    }
  }
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

/// How the tensors of the small training are cut.
enum class Cut { kReplicated, kRows, kColumns, kGrid, kByTensor };
inline constexpr Cut kCuts[] = {Cut::kReplicated, Cut::kRows, Cut::kColumns, Cut::kGrid, Cut::kByTensor};

/// Part `index` of `parts` of a dim; the first parts are the longer ones, and some are empty where there are more parts than elements.
inline std::pair<std::int64_t, std::int64_t> part_of(std::int64_t size, std::int64_t parts, std::int64_t index) {
  const auto start = [&](std::int64_t i) { return i * (size / parts) + std::min(i, size % parts); };
  return {start(index), start(index + 1) - start(index)};
}

/// The tensors whole: a matrix, a vector shorter than there are ranks, a bf16 stack of matrices, a scalar counter.
inline std::vector<std::pair<std::string, at::Tensor>> whole_tensors(std::int64_t step) {
  const auto numbers = [step](const std::vector<std::int64_t>& shape, at::ScalarType type) {
    return (at::arange(num_elements(shape), at::kFloat) * 0.5 + static_cast<double>(step)).reshape(shape).to(type);
  };
  return {{"model.embed_tokens.weight", numbers({6, 8}, at::kFloat)},
          {"model.norm.weight", numbers({3}, at::kFloat)},
          {"model.stack", numbers({4, 3, 5}, at::kBFloat16)},
          {"optimizer.step", at::scalar_tensor(step, at::kLong)}};
}

inline TensorShard cut_tensor(const std::string& name, const at::Tensor& whole, Cut cut, std::int32_t rank, std::int32_t size,
                              std::size_t index) {
  TensorShard shard{.name = name, .local = whole, .global_shape = whole.sizes().vec(), .offset = {}, .writes = rank == 0};
  shard.offset.assign(shard.global_shape.size(), 0);
  const auto narrow = [&](std::size_t dim, std::int64_t parts, std::int64_t part) {
    const auto [start, length] = part_of(shard.global_shape[dim], parts, part);
    shard.local = shard.local.narrow(static_cast<std::int64_t>(dim), start, length);
    shard.offset[dim] = start;
  };
  const auto dims = shard.global_shape.size();
  if (dims > 0 && cut == Cut::kRows) narrow(0, size, rank);
  if (dims > 0 && cut == Cut::kColumns) narrow(dims - 1, size, rank);
  if (dims > 0 && (cut == Cut::kRows || cut == Cut::kColumns)) shard.writes = true;
  if (dims > 1 && cut == Cut::kGrid && size % 2 == 0) {
    narrow(0, 2, rank % 2);
    narrow(1, size / 2, rank / 2);
    shard.writes = true;
  }
  if (cut == Cut::kByTensor) shard.writes = static_cast<std::int32_t>(index) % size == rank;
  shard.local = shard.local.clone();
  return shard;
}

/// A rank's shards; with Cut::kByTensor it has only whole tensors, as pipeline stages do.
inline std::vector<TensorShard> cut_training(std::int64_t step, Cut cut, std::int32_t rank, std::int32_t size) {
  std::vector<TensorShard> shards;
  std::size_t index = 0;
  for (const auto& [name, whole] : whole_tensors(step)) {
    auto shard = cut_tensor(name, whole, cut, rank, size, index++);
    if (cut != Cut::kByTensor || shard.writes) shards.push_back(std::move(shard));
  }
  return shards;
}

/// The same shards with other contents, for a load to fill.
inline std::vector<TensorShard> blank(std::vector<TensorShard> shards) {
  for (auto& shard : shards) shard.local = at::full_like(shard.local, 77);
  return shards;
}

inline bool equal(const std::vector<TensorShard>& a, const std::vector<TensorShard>& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i) same = a[i].name == b[i].name && a[i].local.equal(b[i].local);
  return same;
}

/// To copy a save through: a chunk has 16 bytes, and two ranks' rows of the matrix alone have 96.
inline constexpr std::int64_t kLittleMemory = 128;

inline Options options_for(const std::filesystem::path& path, std::int64_t generation = 1) {
  return {.path = path.string(),
          .keep = 2,
          .job = "default/tiny",
          .job_uid = "uid",
          .generation = generation,
          .layout = {{"data", 1}},
          .identity = {{"model", {{"layers", 4}}}}};
}

inline Snapshot snapshot_of(std::int64_t step, Cut cut, const mesh::Comm& comm) {
  return {.step = step,
          .state = {{"samples", step * 16}, {"learningRate", 0.1 * static_cast<double>(step)}},
          .shards = cut_training(step, cut, comm.rank(), comm.size())};
}

/// Goes on from the newest checkpoint that is right, to `step`, which it saves as the only rank.
inline void resume_and_save(const std::filesystem::path& path, std::int64_t step, std::int64_t generation = 1) {
  PosixStorage storage;
  run_ranks(1, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(path, generation), comm, storage);
    checkpointer.open();
    EXPECT_TRUE(checkpointer.load(blank(cut_training(step, Cut::kReplicated, 0, 1))));
    checkpointer.start(snapshot_of(step, Cut::kReplicated, comm));
    EXPECT_EQ(checkpointer.finish()->failure, "");
  });
}

/// Saves a step on `size` ranks, and waits until it is durable.
inline void save(const std::filesystem::path& path, std::int64_t step, std::int32_t size = 1, Cut cut = Cut::kReplicated) {
  PosixStorage storage;
  run_ranks(size, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(path), comm, storage);
    checkpointer.open();
    EXPECT_FALSE(checkpointer.start(snapshot_of(step, cut, comm)));
    const auto saved = checkpointer.finish();
    ASSERT_TRUE(saved);
    EXPECT_EQ(saved->failure, "");
    EXPECT_EQ(saved->warning, "");
  });
}

/// Loads on `size` ranks and expects all of step `step` to be right; returns what rank 0 was told.
inline Loaded expect_loads(const std::filesystem::path& path, std::int64_t step, std::int32_t size = 1,
                           Cut cut = Cut::kReplicated) {
  PosixStorage storage;
  Loaded first;
  run_ranks(size, [&](mesh::Comm& comm) {
    Checkpointer checkpointer(options_for(path, 2), comm, storage);
    checkpointer.open();
    const auto expected = snapshot_of(step, cut, comm);
    const auto shards = blank(expected.shards);
    const auto loaded = checkpointer.load(shards);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->step, step);
    EXPECT_EQ(loaded->state, expected.state);
    EXPECT_EQ(loaded->path, (path / Directory(storage, path).of_step(step).filename()).string());
    EXPECT_TRUE(equal(shards, expected.shards));
    if (comm.rank() == 0) first = *loaded;
  });
  return first;
}

}  // namespace trainyard::checkpoint
