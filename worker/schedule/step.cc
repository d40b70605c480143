#include "worker/schedule/step.h"

#include <limits>
#include <map>
#include <optional>
#include <utility>

#include <torch/torch.h>

#include "crds/contract/user_error.h"
#include "worker/plan/shards.h"

namespace trainyard::schedule {

using plan::PipelineOpKind;

namespace {

/// A copy from pinned memory takes its turn in the GPU's stream; from other memory the host would wait for all that is before it.
at::Tensor on_device(const at::Tensor& tensor, at::Device device) {
  if (!device.is_cuda() || tensor.is_cuda()) return tensor.to(device);
  return tensor.pin_memory().to(device, /*non_blocking=*/true);
}

/// Sends and receives tell of themselves.
std::optional<mesh::Timeline::Span> span_of(mesh::Timeline& timeline, const plan::PipelineOp& op) {
  const auto of = [&](mesh::Work work) {
    return std::optional<mesh::Timeline::Span>(std::in_place, timeline, work, op.micro_batch, op.chunk);
  };
  switch (op.kind) {
    case PipelineOpKind::kForward: return of(mesh::Work::kForward);
    case PipelineOpKind::kBackward:
    case PipelineOpKind::kBackwardInput:
    case PipelineOpKind::kBackwardWeight: return of(mesh::Work::kBackward);
    default: return std::nullopt;
  }
}

/// Norms lie behind the head in its unit, of which tensor ranks may have a class more or less.
void check_shards_of_norms(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  for (std::int32_t rank = 1; rank < spec.parallelism.tensor; ++rank) {
    if (plan::uncut_elements_kept(spec, stage, rank) == plan::uncut_elements_kept(spec, stage, 0)) continue;
    throw contract::UserError(
        "LayoutNotSupported",
        "parallelism.sequence with zero.stage 1, 2 or 3 needs as many classes on each tensor rank as data ranks that "
        "shard, and model.size.vocabularySize is " +
            std::to_string(spec.model.size.value().vocabularySize) + ": use zero.stage 0, or leave sequence out");
  }
}

}  // namespace

/// A micro-batch on a chunk, from its forward to the end of its backward.
struct StepRunner::InFlight {
  at::Tensor input;   // activations from the part before: a variable whose gradient goes back to it; undefined on the first part
  at::Tensor output;  // activations, or the scaled loss on the last part
  at::Tensor gradient;  // of `output`, from the part after
  at::Tensor loss;      // detached
  // Between the two halves of a split backward:
  Summand gradients;  // of the chunk's leaves; undefined where `late` will give them
  std::vector<model::LateWeights::Product> late;
};

StepRunner::StepRunner(const contract::TrainingJobSpec& spec, model::Parameters& parameters,
                       std::vector<model::LlamaStage>& chunks, mesh::Mesh& mesh)
    : spec_(spec), parameters_(parameters), chunks_(chunks), mesh_(mesh) {
  for (const auto& leaf : parameters.leaves()) {
    chunk_of_leaf_.push_back(parameters.all()[leaf.parameter].global.chunk_on(mesh.at().pp));
  }
  const bool splits =
      spec.parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kZeroBubble && mesh.layout().degrees().pp > 1;
  if (spec.parallelism.sequence && parameters.sharded() != nullptr) check_shards_of_norms(spec, mesh.at().pp);
  if (parameters.sharded() != nullptr || mesh.data().size() > 1)
    bucketed_ = std::make_unique<BucketedGradients>(spec, parameters, mesh, !splits);
  if (!splits) return;
  for (auto& chunk : chunks_) chunk.split_backward(late_);
}

plan::PipelineShape StepRunner::shape(const StepInput& input) const {
  return {.stages = mesh_.layout().degrees().pp,
          .chunks = static_cast<std::int32_t>(chunks_.size()),
          .micro_batches = input.micro_batches};
}

StepResult StepRunner::run(const StepInput& input) {
  // One stage has nobody to wait for: its program is the one that keeps least.
  const auto schedule = mesh_.layout().degrees().pp > 1 ? spec_.parallelism.pipelineSchedule.name
                                                        : contract::PipelineScheduleName::kOneForwardOneBackward;
  const auto program = plan::pipeline_program(schedule, shape(input), mesh_.at().pp);
  Summand total = bucketed_ ? summed_by_unit(program, input) : summed(program, input);
  if (spec_.parallelism.sequence) add_shards_of_tokens(total);
  const at::Tensor loss = total.back();
  return {.loss = loss, .gradients = by_parameter(total)};
}

/// Over micro-batches, by leaf; last the loss. Of a data rank alone.
Summand StepRunner::summed(const std::vector<plan::PipelineOp>& program, const StepInput& input) {
  std::vector<GradientSum> sums(chunks_.size(), GradientSum(spec_.training.reduction));
  const auto add = [&](std::int32_t chunk, Summand summand) { sums.at(static_cast<std::size_t>(chunk)).add(std::move(summand)); };
  execute(program, input, add, nullptr);
  return all_chunks(sums);
}

/// Over data ranks too, of what this one keeps.
Summand StepRunner::summed_by_unit(const std::vector<plan::PipelineOp>& program, const StepInput& input) {
  std::vector<std::vector<std::size_t>> leaves(chunks_.size());
  for (std::size_t leaf = 0; leaf < chunk_of_leaf_.size(); ++leaf) {
    leaves.at(static_cast<std::size_t>(chunk_of_leaf_[leaf])).push_back(leaf);
  }
  bucketed_->begin(input.micro_batches);
  const auto add = [&](std::int32_t chunk, Summand summand) {
    const auto at = static_cast<std::size_t>(chunk);
    const at::Tensor loss = std::move(summand.back());
    summand.pop_back();
    bucketed_->add(leaves.at(at), std::move(summand));
    if (at + 1 == leaves.size()) bucketed_->add_loss(loss);  // the last chunk has it, where one has
  };
  execute(program, input, add, nullptr);
  return bucketed_->take();
}

double StepRunner::loss_sum(const StepInput& input) {
  const at::NoGradGuard no_grad;
  at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(mesh_.device()));
  execute(plan::forward_only(shape(input), mesh_.at().pp), input, nullptr, &sum);
  return sum.item<double>();
}

void StepRunner::execute(const std::vector<plan::PipelineOp>& program, const StepInput& input, const AddSummand& add,
                         at::Tensor* loss_sum) {
  using Key = std::pair<std::int32_t, std::int32_t>;  // micro-batch, chunk
  const auto key = [](const plan::PipelineOp& op) { return Key{op.micro_batch, op.chunk}; };
  std::map<Key, std::size_t> last_op;
  for (std::size_t i = 0; i < program.size(); ++i) last_op[key(program[i])] = i;
  std::map<Key, InFlight> flights;
  for (std::size_t i = 0; i < program.size(); ++i) {
    const auto& op = program[i];
    InFlight& flight = flights[key(op)];
    const auto link = plan::link_of(op, shape(input), mesh_.at().pp);
    const auto span = span_of(mesh_.timeline(), op);
    switch (op.kind) {
      case PipelineOpKind::kReceiveActivation: receive(op, link, input, flight); break;
      case PipelineOpKind::kForward: forward(op, input, flight, loss_sum); break;
      case PipelineOpKind::kSendActivation: mesh_.activations(link.around).send(flight.output, link.peer, link.tag); break;
      case PipelineOpKind::kReceiveGradient: receive(op, link, input, flight); break;
      case PipelineOpKind::kBackward: add(op.chunk, backward(op.chunk, flight)); break;
      case PipelineOpKind::kBackwardInput:
        flight.gradients = backward(op.chunk, flight);
        flight.late = late_.take();
        break;
      case PipelineOpKind::kBackwardWeight: add(op.chunk, finished(op.chunk, flight)); break;
      case PipelineOpKind::kSendGradient: mesh_.gradients(link.around).send(flight.input.grad(), link.peer, link.tag); break;
    }
    if (last_op.at(key(op)) == i) flights.erase(key(op));
  }
}

void StepRunner::receive(const plan::PipelineOp& op, const plan::PipelineLink& link, const StepInput& input, InFlight& flight) {
  const auto options = at::TensorOptions().dtype(parameters_.compute_type()).device(mesh_.device());
  const std::int64_t tokens = input.sequence_length / (spec_.parallelism.sequence ? mesh_.tensor().size() : 1);
  at::Tensor tensor = at::empty({input.micro_batch_size, tokens, spec_.model.size->hiddenSize}, options);
  if (op.kind == PipelineOpKind::kReceiveGradient) {
    mesh_.gradients(link.around).receive(tensor, link.peer, link.tag);
    flight.gradient = tensor;
  } else {
    mesh_.activations(link.around).receive(tensor, link.peer, link.tag);
    flight.input = tensor.requires_grad_(at::GradMode::is_enabled());
  }
}

void StepRunner::forward(const plan::PipelineOp& op, const StepInput& input, InFlight& flight, at::Tensor* loss_sum) {
  auto& chunk = chunks_.at(static_cast<std::size_t>(op.chunk));
  MicroBatch batch;
  if (chunk.is_first() || chunk.is_last()) batch = input.read(op.micro_batch);
  std::optional<std::int64_t> first_token = input.first_token;
  if (first_token) *first_token += op.micro_batch * input.micro_batch_size * input.sequence_length;
  flight.output = chunk.forward(chunk.is_first() ? on_device(batch.tokens_BT, mesh_.device()) : flight.input, first_token);
  if (!chunk.is_last()) return;
  if (bucketed_) bucketed_->settle();
  flight.output = chunk.loss_sum(flight.output, on_device(batch.targets_BT, mesh_.device()));
  if (loss_sum != nullptr) {
    if (op.micro_batch < input.micro_batches - input.not_counted) loss_sum->add_(flight.output);
  } else {
    flight.output = flight.output / static_cast<double>(input.loss_tokens);
    flight.loss = flight.output.detach();
    if (input.loss_scale != 1.0) flight.output = flight.output * input.loss_scale;
  }
}

/// The gradients of the chunk's leaves and the loss; after the first half of a split backward those of matrices are undefined.
Summand StepRunner::backward(std::int32_t chunk, InFlight& flight) {
  if (bucketed_) bucketed_->settle();
  if (flight.gradient.defined()) {
    torch::autograd::backward({flight.output}, {flight.gradient});
  } else {
    torch::autograd::backward({flight.output});
  }
  flight.output.reset();  // the graph goes with it
  flight.gradient.reset();
  Summand summand = gradients_of(chunk);
  const auto scalar = at::TensorOptions().dtype(at::kFloat).device(mesh_.device());
  summand.push_back(flight.loss.defined() ? flight.loss : at::zeros({}, scalar));
  return summand;
}

/// The second half.
Summand StepRunner::finished(std::int32_t chunk, InFlight& flight) {
  model::LateWeights::finish(std::exchange(flight.late, {}));
  const Summand late = gradients_of(chunk);
  for (std::size_t i = 0; i < late.size(); ++i) {
    if (late[i].defined()) flight.gradients[i] = late[i];
  }
  return std::move(flight.gradients);
}

/// Takes them from the chunk's leaves; undefined where a leaf has none.
Summand StepRunner::gradients_of(std::int32_t chunk) {
  Summand gradients;
  for (std::size_t i = 0; i < chunk_of_leaf_.size(); ++i) {
    if (chunk_of_leaf_[i] != chunk) continue;
    at::Tensor& gradient = parameters_.leaves()[i].variable.mutable_grad();
    gradients.push_back(gradient);
    gradient.reset();
  }
  return gradients;
}

/// Every leaf's sum, from that of its chunk; then the loss, which the last chunk has where one has.
Summand StepRunner::all_chunks(std::vector<GradientSum>& sums) {
  std::vector<Summand> totals;
  for (auto& sum : sums) totals.push_back(sum.take());
  std::vector<std::size_t> taken(totals.size(), 0);
  Summand all;
  for (const std::int32_t chunk : chunk_of_leaf_) {
    const auto at = static_cast<std::size_t>(chunk);
    all.push_back(totals[at][taken[at]++]);
  }
  all.push_back(totals.back().back());
  return all;
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

/// What tensor parallelism does not cut, norms, every tensor rank has the gradient of for its own tokens: their sum, by leaf. Which of them
/// a rank has goes by stage and shard, so Canonical leaves the order of additions to no backend, whose ring goes by a number's place.
/// Offloaded ones go by the device, where groups want them.
void StepRunner::add_shards_of_tokens(Summand& sum) {
  std::vector<std::size_t> places;
  Summand parts;
  for (std::size_t i = 0; i < parameters_.leaves().size(); ++i) {
    if (parameters_.all()[parameters_.leaves()[i].parameter].global.split_dim || sum[i].numel() == 0) continue;
    places.push_back(i);
    parts.push_back(sum[i].to(mesh_.device()));
  }
  if (parts.empty()) return;
  reduce_over(mesh_.tensor(), spec_.training.reduction, parts);
  for (std::size_t i = 0; i < places.size(); ++i) sum[places[i]] = parts[i].to(sum[places[i]].device());
}

/// A tied embedding that two stages hold: both add the last stage's gradient to the first's, and so stay equal.
void StepRunner::add_tied(std::vector<at::Tensor>& gradients) {
  const std::int32_t last = mesh_.layout().degrees().pp - 1;
  constexpr std::int32_t kTag = std::numeric_limits<std::int32_t>::max() - 1;  // no micro-batch's
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (parameters_.all()[i].global.stages.size() < 2) continue;
    const at::Device home = gradients[i].device();
    at::Tensor mine = gradients[i].to(mesh_.device()), other = at::empty_like(mine);
    // Both use the two groups in one order: a backend may hold a send up until the other end comes to the same group.
    if (mesh_.is_first_stage()) {
      mesh_.activations().send(mine.clone(), last, kTag);
      mesh_.gradients().receive(other, last, kTag);
      mine.add_(other);
    } else {
      mesh_.activations().receive(other, 0, kTag);
      mesh_.gradients().send(mine, 0, kTag);
      mine = other.add_(mine);
    }
    gradients[i] = mine.to(home);
  }
}

}  // namespace trainyard::schedule
