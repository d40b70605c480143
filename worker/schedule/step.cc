#include "worker/schedule/step.h"

#include <map>

#include <torch/torch.h>

namespace trainyard::schedule {

using plan::PipelineOpKind;

namespace {

/// A copy from pinned memory takes its turn in the GPU's stream; from other memory the host would wait for all that is before it.
at::Tensor on_device(const at::Tensor& tensor, at::Device device) {
  if (!device.is_cuda() || tensor.is_cuda()) return tensor.to(device);
  return tensor.pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace

/// A micro-batch between its forward and its backward.
struct StepRunner::InFlight {
  at::Tensor input;  // activations from the stage before: a variable whose gradient goes back to it; undefined on the first stage
  at::Tensor output;    // activations, or the scaled loss on the last stage
  at::Tensor gradient;  // of `output`, from the stage after
  at::Tensor loss;      // detached
};

StepRunner::StepRunner(const contract::TrainingJobSpec& spec, model::Parameters& parameters, model::LlamaStage& stage,
                       mesh::Mesh& mesh)
    : spec_(spec), parameters_(parameters), stage_(stage), mesh_(mesh) {}

StepResult StepRunner::run(const StepInput& input) {
  const auto program = plan::one_forward_one_backward(mesh_.layout().degrees().pp, input.micro_batches, mesh_.at().pp);
  GradientSum sum(spec_.training.reduction);
  at::Tensor unused;
  execute(program, input, true, sum, unused);
  Summand total = sum.take();
  reduce_over(mesh_.data(), spec_.training.reduction, total);
  const at::Tensor loss = total.back();
  return {.loss = loss, .gradients = by_parameter(total)};
}

double StepRunner::loss_sum(const StepInput& input) {
  const at::NoGradGuard no_grad;
  const auto program = plan::forward_only(mesh_.layout().degrees().pp, input.micro_batches, mesh_.at().pp);
  GradientSum unused(spec_.training.reduction);
  at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(mesh_.device()));
  execute(program, input, false, unused, sum);
  return sum.item<double>();
}

void StepRunner::execute(const std::vector<plan::PipelineOp>& program, const StepInput& input, bool training, GradientSum& sum,
                         at::Tensor& loss_sum) {
  const std::int64_t width = spec_.model.size->hiddenSize;
  const auto options = at::TensorOptions().dtype(parameters_.compute_type()).device(mesh_.device());
  const auto empty = [&] { return at::empty({input.micro_batch_size, input.sequence_length, width}, options); };
  const std::int32_t before = mesh_.at().pp - 1, after = mesh_.at().pp + 1;
  std::map<std::int32_t, InFlight> flights;
  for (const auto& [kind, micro_batch] : program) {
    InFlight& flight = flights[micro_batch];
    switch (kind) {
      case PipelineOpKind::kReceiveActivation:
        flight.input = empty();
        mesh_.activations().receive(flight.input, before, micro_batch);
        if (training) flight.input.requires_grad_();
        break;
      case PipelineOpKind::kForward: forward(flight, input, micro_batch, training, loss_sum); break;
      case PipelineOpKind::kSendActivation: mesh_.activations().send(flight.output, after, micro_batch); break;
      case PipelineOpKind::kReceiveGradient:
        flight.gradient = empty();
        mesh_.gradients().receive(flight.gradient, after, micro_batch);
        break;
      case PipelineOpKind::kBackward: sum.add(backward(flight)); break;
      case PipelineOpKind::kSendGradient: mesh_.gradients().send(flight.input.grad(), before, micro_batch); break;
    }
    const bool done = training ? kind == (mesh_.is_first_stage() ? PipelineOpKind::kBackward : PipelineOpKind::kSendGradient)
                               : kind == (mesh_.is_last_stage() ? PipelineOpKind::kForward : PipelineOpKind::kSendActivation);
    if (done) flights.erase(micro_batch);
  }
}

void StepRunner::forward(InFlight& flight, const StepInput& input, std::int32_t micro_batch, bool training,
                         at::Tensor& loss_sum) {
  MicroBatch batch;
  if (mesh_.is_first_stage() || mesh_.is_last_stage()) batch = input.read(micro_batch);
  flight.output = stage_.forward(mesh_.is_first_stage() ? on_device(batch.tokens_BT, mesh_.device()) : flight.input);
  if (!mesh_.is_last_stage()) return;
  flight.output = stage_.loss_sum(flight.output, on_device(batch.targets_BT, mesh_.device()));
  if (training) {
    flight.output = flight.output / static_cast<double>(input.loss_tokens);
    flight.loss = flight.output.detach();
  } else {
    loss_sum.add_(flight.output);
  }
}

Summand StepRunner::backward(InFlight& flight) {
  if (flight.gradient.defined()) {
    torch::autograd::backward({flight.output}, {flight.gradient});
  } else {
    torch::autograd::backward({flight.output});
  }
  flight.output.reset();  // the graph goes with it
  Summand summand;
  for (auto& leaf : parameters_.leaves()) {
    summand.push_back(leaf.variable.grad().to(at::kFloat));
    leaf.variable.mutable_grad().reset();
  }
  const auto scalar = at::TensorOptions().dtype(at::kFloat).device(mesh_.device());
  summand.push_back(flight.loss.defined() ? flight.loss : at::zeros({}, scalar));
  return summand;
}

std::vector<at::Tensor> StepRunner::by_parameter(Summand& sum) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients(parameters_.all().size());
  for (std::size_t i = 0; i < parameters_.leaves().size(); ++i) {
    auto& gradient = gradients[parameters_.leaves()[i].parameter];
    if (gradient.defined()) {
      gradient.add_(sum[i]);  // a tied embedding on one stage: look-up first, then head
    } else {
      gradient = sum[i];
    }
  }
  add_tied(gradients);
  return gradients;
}

/// A tied embedding that two stages hold: both add the last stage's gradient to the first's, and so stay equal.
void StepRunner::add_tied(std::vector<at::Tensor>& gradients) {
  const std::int32_t last = mesh_.layout().degrees().pp - 1;
  constexpr std::int32_t kTag = 1 << 20;  // beyond every micro-batch
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (parameters_.all()[i].global.stages.size() < 2) continue;
    at::Tensor other = at::empty_like(gradients[i]);
    // Both use the two groups in one order: a backend may hold a send up until the other end comes to the same group.
    if (mesh_.is_first_stage()) {
      mesh_.activations().send(gradients[i].clone(), last, kTag);
      mesh_.gradients().receive(other, last, kTag);
      gradients[i].add_(other);
    } else {
      mesh_.activations().receive(other, 0, kTag);
      mesh_.gradients().send(gradients[i], 0, kTag);
      gradients[i] = other.add_(gradients[i]);
    }
  }
}

}  // namespace trainyard::schedule
