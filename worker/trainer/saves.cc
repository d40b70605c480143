#include "worker/trainer/saves.h"

#include <algorithm>

#include "crds/contract/user_error.h"

namespace trainyard::trainer {
namespace {

constexpr std::int64_t kStepsBetweenTries = 16;

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
             bool reports)
    : spec_(spec), checkpointer_(checkpointer), reporter_(reporter), reports_(reports) {}

bool Saves::after_step(std::int64_t step, const Wish& wish, const TakeSnapshot& take) {
  const bool stops = wish.stop >= 0;
  if (checkpointer_ == nullptr) return stops;
  // A stop is only good with a checkpoint of its own, so it is also a request.
  const std::int64_t request = std::max(wish.request, wish.stop);
  const auto& every = spec_.checkpoint->everySteps;
  if (request > started_ && step >= try_again_) {
    start(step, request, take);
  } else if (every && step % *every == 0) {
    start(step, 0, take);
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
  start(step, 0, take);
  handle(checkpointer_->finish(), step);
  if (!failure_.empty()) {
    throw contract::UserError("CheckpointFailed",
                              "the training is done, but its last checkpoint could not be written: " + failure_ +
                                  ": make room at checkpoint.path, and run the job again to go on from the last one");
  }
}

void Saves::start(std::int64_t step, std::int64_t request, const TakeSnapshot& take) {
  auto snapshot = take();
  if (request > 0) snapshot.request = request;
  handle(checkpointer_->start(snapshot), step);  // how the save before ended, which may have been for an earlier request
  started_ = std::max(started_, request);
}

void Saves::handle(const std::optional<checkpoint::Saved>& saved, std::int64_t step) {
  if (!saved) return;
  failure_ = saved->failure;
  if (failure_.empty()) {
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
        "the checkpoint of step " + std::to_string(saved->step) + " was not written; training goes on without it: " + failure_);
  }
}

}  // namespace trainyard::trainer
