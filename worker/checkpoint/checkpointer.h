#pragma once
// Saves and loads the training's state, sharded over the ranks. Saving goes on beside the training: start() copies the rank's shards to
// host memory (staging.h), a helper thread writes them, and poll(), called between steps, moves the ranks together from phase to phase:
//
//   start ── write shards, fsync (all ranks) ── poll: all done ── manifest, rename, fsync, prune (rank 0) ── poll: durable
//
// Loading finds the newest checkpoint that is whole and right, of any layout, and gives each rank the boxes that it holds now.

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "crds/contract/job.h"
#include "crds/contract/user_error.h"
#include "worker/checkpoint/agreement.h"
#include "worker/checkpoint/directory.h"
#include "worker/checkpoint/identity.h"
#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/storage.h"
#include "worker/checkpoint/tensor_shard.h"
#include "worker/checkpoint/trouble.h"
#include "worker/mesh/comm.h"
#include "worker/plan/staging_cost.h"

namespace trainyard::checkpoint {

struct Options {
  std::string path;            // spec.checkpoint.path
  std::int32_t keep = 3;       // spec.checkpoint.keep
  std::int32_t keep_best = 0;  // spec.checkpoint.keepBest
  /// The loss of a checkpoint of that step by its state; nothing where it has none of its own.
  std::function<std::optional<double>(std::int64_t step, const contract::Json& state)> loss_of;
  std::string job;  // namespace/name
  std::string job_uid;
  std::int64_t generation = 0;                       // of the gang
  contract::Json layout;                             // the degrees, for people who read the manifest
  contract::Json identity;                           // identity_of(spec)
  std::int64_t staging_bytes = plan::kStagingBytes;  // of this rank's host memory, that a save copies through
  at::Device device = at::kCPU;                      // where collectives of `world` need their tensors: CUDA for NCCL
  /// How long ranks wait for one's files before they tell each other that they are still there. Below the timeout of every backend, so
  /// that reading or writing may take as long as it takes.
  std::chrono::milliseconds round{10'000};
};

/// Everything a resume needs that is not a tensor goes into `state`: cursor, counters, seed. It must be equal on all ranks.
struct Snapshot {
  std::int64_t step = 0;
  contract::Json state;
  std::vector<TensorShard> shards;
  std::optional<std::int64_t> request;  // the assignment's checkpointRequest that this answers
};

/// How a save ended; equal on all ranks.
struct Saved {
  std::int64_t step = 0;
  std::optional<std::int64_t> request;
  contract::CheckpointStatus status;  // of a durable one
  std::string failure;  // empty: durable. Else "write /checkpoints/…: No space left on device", and nothing is left of it
  Trouble trouble = Trouble::kNone;  // the kind of the failure
  std::string warning;               // not empty: durable, but older ones could not be removed, and why
  double blocked_seconds = 0.0;      // this rank's training thread: until all ranks' shards were copied, and waiting for its end
};

struct Loaded {
  std::int64_t step = 0;
  contract::Json state;
  std::string path;
  std::vector<std::string> skipped;  // newer checkpoints that are corrupt, one message each, the newest first
};

/// Lives on the training thread. Every call but saving() is collective over `world`: all ranks make it, in the same order. A lost peer
/// surfaces as mesh::PeerLost from any of them.
class Checkpointer {
 public:
  Checkpointer(Options options, mesh::Comm& world, Storage& storage);
  /// Abandons a save that was not finished: what it wrote is left to the next open().
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  /// Once, before load() and start(): proves that all ranks see one folder, takes it for this generation and removes what crashed
  /// writers left. Returns why some of that could not be removed, which is no obstacle; empty: nothing is left.
  /// Throws on all ranks: UserError (CheckpointsNotShared, CheckpointsNotWritable), and StorageUnavailable.
  std::string open();

  /// Loads the newest checkpoint that is whole into the shards' tensors, all of which must be in it. Nothing when there is none at all.
  /// Throws on all ranks: UserError CheckpointOfAnotherJob when the identity differs, CheckpointsUnreadable when this user may not read
  /// one or a newer program wrote it, CheckpointsCorrupt when there are some but none is right; StorageUnavailable when one could not be
  /// read for the moment, since it may be a good one. The tensors' contents are undefined then.
  std::optional<Loaded> load(const std::vector<TensorShard>& shards);

  /// Starts to save: returns when all ranks have copied their shards, which may change then. A rank whose shards are larger than the
  /// memory that it copies them through waits for its storage meanwhile. While another save is under way, waits for that first and returns
  /// how it ended. A step that was loaded or made durable last is not written again. A copy that fails (a device's, too little memory) throws
  /// on that rank alone, and the save fails.
  std::optional<Saved> start(const Snapshot& snapshot);
  /// Between steps: moves a save on, and returns how it ended when it did. One small reduction while a save is under way, else nothing.
  std::optional<Saved> poll();
  /// Waits for the save that is under way, if there is one.
  std::optional<Saved> finish();
  bool saving() const;
  /// Whether the step's checkpoint was loaded or is the one that became durable last, and no save is under way.
  bool is_durable(std::int64_t step) const { return !saving() && durable_step_ == step; }

 private:
  struct Save;
  std::optional<Saved> advance(bool wait);
  bool all_done(bool wait, Problem& problem);
  std::string commit(const Save& save);
  std::set<std::int64_t> best(const Save& save, const std::set<std::int64_t>& corrupt);
  Saved ended(const Problem& problem);
  std::optional<Manifest> read_candidate(std::int64_t step, const std::vector<TensorShard>& shards, std::string& problem);
  std::string read_tensors(std::int64_t step, const Manifest& manifest, const std::vector<TensorShard>& shards);
  Problem together(std::function<void()> work);
  std::string owner() const;
  std::filesystem::path temporary(std::int64_t step) const;

  Options options_;
  std::int32_t rank_;
  Storage& storage_;
  Directory directory_;
  Agreement agreement_;
  std::optional<std::int64_t> durable_step_;
  std::map<std::int64_t, std::optional<double>> losses_;  // of the checkpoints that are there; on rank 0's helper alone
  std::set<std::int64_t> corrupt_;  // steps whose checkpoints load() skipped; changed only while no save is under way
  std::unique_ptr<Save> save_;
  std::future<Problem> work_;  // this rank's part of together(); kept when a peer is lost meanwhile
};

}  // namespace trainyard::checkpoint
