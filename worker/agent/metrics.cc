#include "worker/agent/metrics.h"

#include <optional>
#include <sstream>
#include <utility>

namespace trainyard::agent {
namespace {

class Text {
 public:
  void head(const char* name, const char* type, const char* help) {
    out_ << "# HELP " << name << ' ' << help << "\n# TYPE " << name << ' ' << type << '\n';
  }
  template <class Number>
  void metric(const char* name, const char* type, const char* help, const Number& value) {
    head(name, type, help);
    out_ << name << ' ' << value << '\n';
  }
  /// One line for each rank that has the value.
  template <class Get>
  void of_ranks(const char* name, const char* help, const Measured& measured, Get&& get) {
    bool is_first = true;
    for (const auto& [rank, measures] : measured.of_rank) {
      const auto value = get(measures);
      if (!value) continue;
      if (std::exchange(is_first, false)) head(name, "gauge", help);
      out_ << name << "{rank=\"" << rank << "\"} " << *value << '\n';
    }
  }
  template <class Number>
  void gauge(const char* name, const char* help, const std::optional<Number>& value) {
    if (value) metric(name, "gauge", help, *value);
  }
  std::ostream& out() { return out_; }
  std::string str() const { return out_.str(); }

 private:
  std::ostringstream out_;
};

void write_times(Text& text, const Measured& measured) {
  const char* name = "trainyard_rank_step_seconds";
  bool is_first = true;
  for (const auto& [rank, measures] : measured.of_rank) {
    if (!measures.times) continue;
    if (std::exchange(is_first, false)) {
      text.head(name, "gauge", "Where the time of a rank's last step went; the parts add up to the step.");
    }
    const auto part = [&, rank = rank](const std::string& what, double seconds) {  // clang captures no structured binding
      text.out() << name << "{rank=\"" << rank << "\",part=\"" << what << "\"} " << seconds << '\n';
    };
    part("compute", measures.times->compute);
    part("data", measures.times->data);
    part("checkpoint", measures.times->checkpoint);
    for (const auto& [axis, seconds] : measures.times->communication) part("communication_" + axis, seconds);
  }
}

void write_measures(Text& text, const Measured& measured) {
  using contract::Measures;
  write_times(text, measured);
  text.of_ranks("trainyard_rank_memory_peak_bytes",
                "Most memory a rank has had: of its GPU for tensors, or resident on the host.", measured,
                [](const Measures& of) { return of.memoryPeakBytes; });
  const auto job = measured.reporting_rank ? measured.of_rank.find(*measured.reporting_rank) : measured.of_rank.end();
  if (job == measured.of_rank.end()) return;
  const auto& of = job->second;
  text.gauge("trainyard_loss_z_score", "Standard deviations of the last step's loss from the mean of the 128 before it.",
             of.lossZScore);
  text.gauge("trainyard_gradient_norm_z_score", "The same of the gradient's norm.", of.gradientNormZScore);
  text.gauge("trainyard_model_flops_per_second", "Operations a second of one device, of the model's own arithmetic.",
             of.modelFlopsPerSecond);
  text.gauge("trainyard_hardware_flops_per_second", "The same with what recomputation does again.", of.hardwareFlopsPerSecond);
  text.gauge("trainyard_hardware_flops_utilization", "Share of the devices' peak that these take.", of.hardwareFlopsUtilization);
}

}  // namespace

std::string metrics_text(const contract::State& state, const RankCounts& counts, const Measured& measured) {
  Text text;
  text.out().precision(17);
  text.head("trainyard_agent_phase", "gauge", "1 for the phase that the agent is in, 0 for the others.");
  for (const auto phase : enum_names(contract::AgentPhase{})) {
    text.out() << "trainyard_agent_phase{phase=\"" << phase << "\"} " << (phase == contract::name_of(state.phase) ? 1 : 0)
               << '\n';
  }
  text.metric("trainyard_agent_generation", "gauge", "The gang's generation that the agent has been told of.", state.generation);
  text.metric("trainyard_ranks_started_total", "counter", "Rank processes started in this pod; restarts count.", counts.started);
  text.metric("trainyard_ranks_failed_total", "counter", "Rank processes that ended neither well nor as asked.", counts.failed);
  if (state.checkpoint) {
    text.metric("trainyard_checkpoint_step", "gauge", "Step of the newest durable checkpoint.", state.checkpoint->step);
  }
  write_measures(text, measured);
  if (!state.progress) return text.str();
  const auto& progress = *state.progress;
  text.metric("trainyard_training_step", "gauge", "Optimizer steps done.", progress.step);
  text.metric("trainyard_training_steps", "gauge", "Optimizer steps to do.", progress.steps);
  text.metric("trainyard_training_tokens", "gauge", "Tokens trained on.", progress.tokens);
  text.gauge("trainyard_training_loss", "Cross entropy of the last step, in nats a token.", progress.loss);
  text.gauge("trainyard_validation_loss", "Cross entropy of the last evaluation, in nats a token.", progress.validationLoss);
  text.gauge("trainyard_learning_rate", "Learning rate of the last step.", progress.learningRate);
  text.gauge("trainyard_gradient_norm", "Norm of the gradient before clipping.", progress.gradientNorm);
  text.metric("trainyard_skipped_steps", "gauge", "Steps that changed nothing, since their gradient was not finite.",
              progress.skippedSteps.value_or(0));
  text.gauge("trainyard_loss_scale", "What the loss is multiplied with before the backward pass; FP16 alone.",
             progress.lossScale);
  text.gauge("trainyard_tokens_per_second", "Tokens a second of the whole job.", progress.tokensPerSecond);
  text.gauge("trainyard_model_flops_utilization", "Share of the devices' peak that the model's own arithmetic takes.",
             progress.mfu);
  text.gauge("trainyard_remaining_seconds", "Seconds until the last step, at the present speed.", progress.remainingSeconds);
  return text.str();
}

}  // namespace trainyard::agent
