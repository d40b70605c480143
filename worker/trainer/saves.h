#pragma once
// When to save, what to say about it, and when a wish to stop is fulfilled.

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "crds/contract/assignment.h"
#include "worker/checkpoint/checkpointer.h"
#include "worker/mesh/mesh.h"
#include "worker/report/reporter.h"

namespace trainyard::trainer {

/// What this rank's agent wants; the largest over all ranks decides, so that all act at the same step, whoever heard it first.
struct Wish {
  std::int64_t request = 0;  // write a checkpoint for it, unless one was; 0: none
  std::int64_t stop = -1;    // stop when the checkpoint for this request is durable; -1: go on
  bool operator==(const Wish&) const = default;
};
Wish wish_of(const contract::RankControl& control);
/// One small reduction (MAX) over all ranks.
Wish agree(mesh::Mesh& mesh, const Wish& mine);

/// The checkpoint policy of a training. Lives on the training thread; every call is collective over the world.
class Saves {
 public:
  /// Takes the step's state when a save starts.
  using TakeSnapshot = std::function<checkpoint::Snapshot()>;

  /// `checkpointer` is null where the job has no spec.checkpoint: then a wish to stop is fulfilled at once. `reports`: this rank says
  /// to people what happens (warnings); every rank tells its agent of durable checkpoints. `wait` returns after that time.
  Saves(const contract::TrainingJobSpec& spec, checkpoint::Checkpointer* checkpointer, report::Reporter& reporter, bool reports,
        std::function<void(std::chrono::seconds)> wait);

  /// After each step. True: the training ends here, stopped as wished. A save that fails is a notice (CheckpointFailed), and is tried
  /// again for the same request 16 steps later at the soonest.
  /// `is_sound`: the step was not skipped. Where it was, the weights may be what is wrong: a periodic save, which would take the place of a
  /// good one, waits for the next step that is.
  bool after_step(std::int64_t step, const Wish& wish, const TakeSnapshot& take, bool is_sound = true);

  /// After the last step: the final checkpoint. While the storage fails for the moment it is tried again, for about a minute. Throws
  /// when it cannot be written, since the training would be lost without anybody's notice: UserError (CheckpointFailed) where the user
  /// has to mend something, else checkpoint::StorageUnavailable.
  void finish(std::int64_t step, const TakeSnapshot& take);

  /// Seconds that training stood still for the saves that ended since this was asked, together; nothing where none did.
  std::optional<double> take_blocked_seconds() { return std::exchange(blocked_seconds_, std::nullopt); }

 private:
  void start(std::int64_t step, std::int64_t request, const TakeSnapshot& take);
  /// `consequence` of a failure, for people.
  void handle(const std::optional<checkpoint::Saved>& saved, std::int64_t step,
              const std::string& consequence = "training goes on without it");

  const contract::TrainingJobSpec& spec_;
  checkpoint::Checkpointer* checkpointer_;
  report::Reporter& reporter_;
  bool reports_;
  std::function<void(std::chrono::seconds)> wait_;
  bool is_due_ = false;          // a periodic save
  std::int64_t started_ = 0;     // the highest request that a save was started for
  std::int64_t answered_ = 0;    // the highest request whose save is durable
  std::int64_t try_again_ = 0;   // not before this step, after a failure
  checkpoint::Problem problem_;  // of the last save
  std::optional<double> blocked_seconds_;
};

}  // namespace trainyard::trainer
