#include "worker/agent/metrics.h"

#include <optional>
#include <sstream>

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
  template <class Number>
  void gauge(const char* name, const char* help, const std::optional<Number>& value) {
    if (value) metric(name, "gauge", help, *value);
  }
  std::ostream& out() { return out_; }
  std::string str() const { return out_.str(); }

 private:
  std::ostringstream out_;
};

}  // namespace

std::string metrics_text(const contract::State& state, const RankCounts& counts) {
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
