#include "worker/trainer/training.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <utility>

#include "crds/contract/time.h"
#include "crds/contract/user_error.h"
#include "worker/checkpoint/checkpointer.h"
#include "worker/checkpoint/identity.h"
#include "worker/data/partition.h"
#include "worker/data/sample_stream.h"
#include "worker/plan/curriculum.h"
#include "worker/trainer/engine.h"
#include "worker/trainer/evaluation.h"
#include "worker/trainer/measurements.h"
#include "worker/trainer/metrics_folder.h"
#include "worker/trainer/progress_meter.h"
#include "worker/trainer/resume_state.h"
#include "worker/trainer/saves.h"
#include "worker/trainer/skipped_steps.h"

namespace trainyard::trainer {
namespace {

using contract::TrainingJobSpec;

/// Well below what counts as a hang, so that a save may take as long as it takes.
std::chrono::milliseconds round_of(const contract::Lifecycle& lifecycle) {
  return std::min(std::chrono::milliseconds(10'000), std::chrono::milliseconds(250 * lifecycle.hangTimeoutSeconds.value_or(40)));
}

checkpoint::Options checkpoint_options(const contract::RankConfig& config, const data::SampleSet& data, const mesh::Mesh& mesh) {
  const auto& degrees = mesh.layout().degrees();
  return {.path = config.spec.checkpoint->path,
          .keep = config.spec.checkpoint->keep,
          .keep_best = config.spec.checkpoint->keepBest,
          .loss_of = loss_of_checkpoint,
          .job = config.job,
          .job_uid = config.jobUid,
          .generation = config.generation,
          .layout = {{"data", degrees.dp}, {"pipeline", degrees.pp}, {"context", degrees.cp}, {"tensor", degrees.tp}},
          .identity = checkpoint::identity_of(config.spec, data.num_tokens()),
          .device = mesh.device(),
          .round = round_of(config.spec.lifecycle)};
}

/// JSON has no number for what is none.
std::optional<double> finite(double number) { return std::isfinite(number) ? std::optional(number) : std::nullopt; }

}  // namespace

class Training::Loop {
 public:
  Loop(const contract::RankConfig& config, mesh::Mesh& mesh, const Surroundings& around)
      : config_(config),
        spec_(config.spec),
        mesh_(mesh),
        around_(around),
        stream_(spec_.data, spec_.model.size.value().vocabularySize, spec_.training.seed),
        cursor_(stream_.begin()),
        steps_(data::planned_steps(spec_.training, stream_.samples_per_epoch(), spec_.data.sequenceLength)),
        engine_(spec_, mesh, steps_),
        meter_(spec_, mesh.layout().world_size(), around.name_of_device(mesh.device())),
        measurements_(mesh.timeline(), mesh.device()) {
    if (spec_.evaluation) {
      validation_.emplace("spec.data.validation", spec_.data.validation, spec_.data.sequenceLength,
                          spec_.model.size->vocabularySize);
    }
    if (spec_.checkpoint) {
      checkpointer_.emplace(checkpoint_options(config, stream_.set(), mesh), mesh.world(), around.storage);
    }
  }

  Outcome run() {
    // Reading a checkpoint may take long, and since it was written nothing was done that would be lost: a stop waits for no step.
    if (told_to_stop()) return Outcome::kStopped;
    restore();
    mesh_.timeline().set_step(engine_.steps_done(), false);
    const bool is_done = engine_.steps_done() >= steps_;
    if (!is_done && told_to_stop()) return Outcome::kStopped;
    foresee();
    if (is_done) report();  // with no step left to do nothing else would tell of the last one
    Saves saves(spec_, checkpointer_ ? &*checkpointer_ : nullptr, around_.reporter, reports_progress(mesh_), around_.wait);
    meter_.start(around_.seconds());
    measurements_.start();
    folder_.emplace(spec_, mesh_, engine_.steps_done(), reports_progress(mesh_),
                    [this](const std::string& words) { around_.reporter.notice(true, "MetricsNotWritten", words); });
    while (engine_.steps_done() < steps_) {
      folder_->before_step(engine_.steps_done() + 1);
      const auto metrics = step();
      const std::int64_t done = engine_.steps_done();
      losses_.training = finite(metrics.loss);
      if (spec_.evaluation && (done % spec_.evaluation->everySteps == 0 || done == steps_)) {
        const mesh::Timeline::Span span(mesh_.timeline(), mesh::Work::kEvaluation);
        losses_.validation = evaluate(spec_, *validation_, engine_, mesh_);
        losses_.validation_step = done;
      }
      meter_.step_done(around_.seconds(), sequence_length_);
      report(metrics);
      mesh_.timeline().set_step(done, true);
      if (!std::exchange(is_warm_, true)) around_.warmed_up();
      const Wish wish = agree(mesh_, wish_of(around_.control()));
      const bool stops = done < steps_ && save_after(saves, done, wish, !metrics.skipped);
      folder_->after_step(done);
      tell_of_save(saves, done);
      if (stops) {
        folder_->finish();
        return Outcome::kStopped;
      }
    }
    end_if_all_were_skipped(engine_.state(), spec_.training.precision.compute);
    const mesh::Timeline::Span span(mesh_.timeline(), mesh::Work::kCheckpoint);
    saves.finish(engine_.steps_done(), [this] { return snapshot(); });
    tell_of_save(saves, engine_.steps_done());
    folder_->finish();
    return Outcome::kFinished;
  }

 private:
  void restore() {
    const mesh::Timeline::Span span(mesh_.timeline(), mesh::Work::kLoad);
    std::optional<checkpoint::Loaded> loaded;
    if (checkpointer_) {
      const auto left = checkpointer_->open();
      if (!left.empty())
        notice(true, "CheckpointsNotRemoved", "what a crash left in checkpoint.path could not be removed: " + left);
      loaded = checkpointer_->load(engine_.shards());
    }
    if (!loaded) return engine_.initialize();
    const auto state = contract::decode<ResumeState>(loaded->state, "state");
    if (!state.problems.empty() || state.value.cursor.consumed.size() != stream_.set().num_sources()) {
      throw contract::UserError("CheckpointsCorrupt",
                                "resume from " + loaded->path +
                                    ": its state does not say what data was consumed: " + contract::to_text(state.problems));
    }
    cursor_ = state.value.cursor;
    losses_ = {
        .training = state.value.loss, .validation = state.value.validationLoss, .validation_step = state.value.validationStep};
    engine_.resume(engine_state_of(state.value, loaded->step));
    plan_steps();
    for (const auto& why : loaded->skipped) notice(true, "CheckpointCorrupt", why);
    for (const auto& change : changes_since(state.value, config_)) notice(false, "ResumedWithChanges", change);
    notice(false, "Resumed", "training goes on from step " + std::to_string(loaded->step) + ", " + loaded->path);
  }

  /// True: the training ends here.
  bool save_after(Saves& saves, std::int64_t step, const Wish& wish, bool is_sound) {
    const mesh::Timeline::Span span(mesh_.timeline(), mesh::Work::kCheckpoint);
    return saves.after_step(
        step, wish, [this] { return snapshot(); }, is_sound);
  }

  void tell_of_save(Saves& saves, std::int64_t step) {
    if (const auto seconds = saves.take_blocked_seconds()) folder_->add_checkpoint(step, *seconds);
  }

  bool told_to_stop() { return agree(mesh_, wish_of(around_.control())).stop >= 0; }

  plan::StepsDone so_far() const { return {.steps = engine_.steps_done(), .samples = cursor_.samples}; }

  void plan_steps() {
    steps_ = data::planned_steps(spec_.training, stream_.samples_per_epoch(), spec_.data.sequenceLength, so_far());
    engine_.set_steps(steps_);
  }

  /// Warns of what was asked for and will not come to be in the steps that are left.
  void foresee() {
    foresee_schedule();
    foresee_metrics();
    foresee_lengths();
  }

  void foresee_schedule() {
    const std::int64_t warm_up = spec_.training.learningRateSchedule.warmupSteps;
    if (warm_up <= steps_) return;
    notice(true, "WarmupOutlastsTraining",
           "the training ends with step " + std::to_string(steps_) + ", and training.learningRateSchedule.warmupSteps is " +
               std::to_string(warm_up) + ": the learning rate never comes to its peak; warm up shorter, or train longer");
  }

  void foresee_metrics() {
    if (!spec_.metrics) return;
    if (!spec_.metrics->tensorBoard && !spec_.metrics->trace) {
      notice(true, "MetricsWithoutEffect", "spec.metrics asks for neither tensorBoard nor trace: nothing is written");
    }
    if (!spec_.metrics->trace) return;
    for (const std::int64_t step : spec_.metrics->trace->steps) {
      if (step <= steps_) continue;
      notice(true, "MetricsWithoutEffect",
             "the training ends with step " + std::to_string(steps_) + ": there will be no trace of step " +
                 std::to_string(step) + " (metrics.trace.steps)");
    }
  }

  /// Of a curriculum that has no end among them.
  void foresee_lengths() {
    const auto ahead = plan::steps_ahead(spec_, so_far(), steps_, stream_.samples_per_epoch());
    if (ahead.empty() || ahead.back().sequence_length == spec_.data.sequenceLength) return;
    notice(true, "CurriculumOutlastsTraining",
           "the training ends with step " + std::to_string(steps_) + ", whose sequences still have " +
               std::to_string(ahead.back().sequence_length) + " tokens: none will have data.sequenceLength, " +
               std::to_string(spec_.data.sequenceLength) + "; let data.curriculum end earlier, or train longer");
  }

  /// The shape of this step's micro-batches; of a curriculum tells at the start, and where it changes.
  plan::MicroBatchShape next_shape() {
    const std::int32_t length = plan::next_sequence_length(spec_, so_far(), stream_.samples_per_epoch());
    if (spec_.data.curriculum && length != sequence_length_) {
      notice(false, "SequenceLength",
             "from step " + std::to_string(engine_.steps_done() + 1) + " on sequences have " + std::to_string(length) +
                 " tokens (data.curriculum)");
    }
    sequence_length_ = length;
    return plan::micro_batch_shape(spec_, length);
  }

  void notice(bool warning, const char* reason, const std::string& message) {
    if (reports_progress(mesh_)) around_.reporter.notice(warning, reason, message);
  }

  StepMetrics step() {
    const std::int64_t batch = spec_.training.globalBatchSize;
    const auto shape = next_shape();
    const auto samples = stream_.next(cursor_, batch);
    const auto mine = data::micro_batches(batch, mesh_.layout().degrees().dp, mesh_.at().dp, spec_.parallelism.microBatchSize);
    const auto read = [&](std::int32_t i) {
      const mesh::Timeline::Span span(mesh_.timeline(), mesh::Work::kData);
      const auto& range = mine.ranges.at(static_cast<std::size_t>(i));
      const auto read_batch = stream_.read({samples.data() + range.first, static_cast<std::size_t>(range.count)});
      const std::array<std::int64_t, 2> cut{shape.sequences, shape.sequence_length};
      return schedule::MicroBatch{read_batch.tokens_BT.view(cut), read_batch.targets_BT.view(cut)};
    };
    const auto metrics =
        engine_.step({.micro_batches = static_cast<std::int32_t>(mine.ranges.size()),
                      .micro_batch_size = shape.sequences,
                      .sequence_length = shape.sequence_length,
                      .loss_tokens = batch * spec_.data.sequenceLength,
                      .read = read,
                      .first_token = (cursor_.samples - batch + mine.ranges.front().first) * spec_.data.sequenceLength});
    if (metrics.skipped) {
      const auto compute = spec_.training.precision.compute;
      if (const auto words = notice_of_skipped(engine_.state(), compute)) notice(true, "StepSkipped", *words);
      end_if_none_is_finite(engine_.state(), compute);
    }
    return metrics;
  }

  /// `metrics`: of the step that was just done; nothing where none was since the resume.
  void report(const std::optional<StepMetrics>& metrics = std::nullopt) {
    std::optional<contract::Measures> measures;
    if (metrics) measures = measurements_.step_done(meter_, metrics->loss, metrics->gradient_norm);
    if (!reports_progress(mesh_)) {
      if (measures) around_.measured(*measures);
      return;
    }
    const auto told = progress(metrics);
    around_.reporter.progress(told, measures);
    if (measures) folder_->add(told, *measures, losses_.validation_step == told.step);
    if (const auto words = meter_.impossible(); words && !std::exchange(told_impossible_, true))
      notice(true, "RateImpossible", *words);
  }

  contract::Progress progress(const std::optional<StepMetrics>& metrics) const {
    contract::Progress out;
    out.step = engine_.steps_done();
    out.steps = steps_;
    out.epoch = static_cast<double>(cursor_.samples) / static_cast<double>(stream_.samples_per_epoch());
    out.samples = cursor_.samples;
    out.tokens = cursor_.tokens;
    out.loss = losses_.training;
    out.validationLoss = losses_.validation;
    if (losses_.validation) out.validationPerplexity = std::exp(*losses_.validation);
    if (metrics) {
      out.learningRate = metrics->learning_rate;
      out.gradientNorm = finite(metrics->gradient_norm);
    }
    if (engine_.state().skipped > 0) out.skippedSteps = engine_.state().skipped;
    if (const auto& scale = engine_.state().loss_scale) out.lossScale = scale->scale;
    out.tokensPerSecond = meter_.tokens_per_second();
    out.mfu = meter_.mfu();
    out.remainingSeconds = meter_.remaining_seconds(plan::steps_ahead(spec_, so_far(), steps_, stream_.samples_per_epoch()));
    out.updatedAt =
        contract::to_rfc3339(std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now()));
    return out;
  }

  checkpoint::Snapshot snapshot() const {
    return {.step = engine_.steps_done(),
            .state = contract::encode(resume_state_of(config_, cursor_, losses_, engine_.state())),
            .shards = engine_.shards(),
            .request = std::nullopt};
  }

  const contract::RankConfig& config_;
  const TrainingJobSpec& spec_;
  mesh::Mesh& mesh_;
  const Surroundings& around_;
  data::SampleStream stream_;
  data::Cursor cursor_;
  std::int64_t steps_;
  std::int32_t sequence_length_ = 0;  // of the last step; 0 before the first
  Engine engine_;
  ProgressMeter meter_;
  Measurements measurements_;
  bool is_warm_ = false;
  bool told_impossible_ = false;
  std::optional<MetricsFolder> folder_;  // once it is known from which step the training goes on
  std::optional<data::SampleSet> validation_;
  std::optional<checkpoint::Checkpointer> checkpointer_;
  Losses losses_;
};

Training::Training(const contract::RankConfig& config, mesh::Mesh& mesh, const Surroundings& around)
    : loop_(std::make_unique<Loop>(config, mesh, around)) {}

Training::~Training() = default;

Outcome Training::run() { return loop_->run(); }

bool reports_progress(const mesh::Mesh& mesh) { return mesh.is_last_stage() && mesh.at().dp == 0 && mesh.at().tp == 0; }

}  // namespace trainyard::trainer
