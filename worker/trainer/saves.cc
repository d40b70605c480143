#include "worker/trainer/saves.h"

#include <algorithm>
#include <utility>

#include "crds/contract/user_error.h"

namespace trainyard::trainer {
namespace {

using checkpoint::Trouble;
using std::chrono::seconds;

constexpr std::int64_t kStepsBetweenTries = 16;
constexpr seconds kFirstWait{1}, kLongestWait{32};  // doubled from one try of the last checkpoint to the next: 63 s in all

}  // namespace

Wish wish_of(const contract::RankControl& control) {
  return {.request = control.checkpointRequest, .stop = control.stopAfter.value_or(-1)};
}

Wish agree(mesh::Mesh& mesh, const Wish& mine) {
  if (mesh.world().size() == 1) return mine;
  at::Tensor word = at::tensor({mine.request, mine.stop}, at::kLong).to(mesh.device());
  mesh.world().all_reduce(word, mesh::ReduceOp::kMax);
  const at::Tensor host = word.cpu();
  return {.request = host[0].item<std::int64_t>(), .stop = host[1].item<std::int64_t>()};
}

Saves::Saves(const contract::TrainingJobSpec& spec, checkpoint::Checkpointer* checkpointer, report::Reporter& reporter,
             bool reports, std::function<void(seconds)> wait)
    : spec_(spec), checkpointer_(checkpointer), reporter_(reporter), reports_(reports), wait_(std::move(wait)) {}

bool Saves::after_step(std::int64_t step, const Wish& wish, const TakeSnapshot& take, bool is_sound) {
  const bool stops = wish.stop >= 0;
  if (checkpointer_ == nullptr) return stops;
  // A stop is only good with a checkpoint of its own, so it is also a request.
  const std::int64_t request = std::max(wish.request, wish.stop);
  const auto& every = spec_.checkpoint->everySteps;
  if (every && step % *every == 0) is_due_ = true;
  if (request > started_ && step >= try_again_) {
    start(step, request, take);
  } else if (is_due_ && is_sound) {
    start(step, 0, take);
    is_due_ = false;
  }
  if (stops && answered_ < wish.stop && started_ >= wish.stop) {
    handle(checkpointer_->finish(), step);  // steps that are done meanwhile would be lost
  } else {
    handle(checkpointer_->poll(), step);
  }
  return stops && answered_ >= wish.stop;
}

void Saves::finish(std::int64_t step, const TakeSnapshot& take) {
  if (checkpointer_ == nullptr || checkpointer_->is_durable(step)) return;
  for (seconds wait = kFirstWait;; wait *= 2) {
    start(step, 0, take);
    const auto saved = checkpointer_->finish();
    const bool again = saved && saved->trouble != Trouble::kRefused && wait <= kLongestWait;
    handle(saved, step, again ? "it is tried again in " + std::to_string(wait.count()) + " s" : "the training ends without it");
    if (problem_.trouble == Trouble::kNone) return;
    const std::string lost = "the training is done, but its last checkpoint could not be written: " + problem_.text;
    if (problem_.trouble == Trouble::kRefused) {
      throw contract::UserError("CheckpointFailed",
                                lost + ": make room at checkpoint.path, and run the job again to go on from the last one");
    }
    if (!again) throw checkpoint::StorageUnavailable(lost);
    wait_(wait);
  }
}

void Saves::start(std::int64_t step, std::int64_t request, const TakeSnapshot& take) {
  auto snapshot = take();
  if (request > 0) snapshot.request = request;
  handle(checkpointer_->start(snapshot), step);  // how the save before ended, which may have been for an earlier request
  started_ = std::max(started_, request);
}

void Saves::handle(const std::optional<checkpoint::Saved>& saved, std::int64_t step, const std::string& consequence) {
  if (!saved) return;
  problem_ = {saved->trouble, saved->failure};
  blocked_seconds_ = blocked_seconds_.value_or(0) + saved->blocked_seconds;  // a call may see two saves end
  if (problem_.trouble == Trouble::kNone) {
    answered_ = std::max(answered_, saved->request.value_or(0));
    reporter_.checkpoint(saved->status, saved->request);
    if (!saved->warning.empty() && reports_) reporter_.notice(true, "CheckpointsNotRemoved", saved->warning);
    return;
  }
  if (saved->request) {
    started_ = answered_;
    try_again_ = step + kStepsBetweenTries;
  }
  if (reports_) {
    reporter_.notice(
        true, "CheckpointFailed",
        "the checkpoint of step " + std::to_string(saved->step) + " was not written; " + consequence + ": " + saved->failure);
  }
}

}  // namespace trainyard::trainer
