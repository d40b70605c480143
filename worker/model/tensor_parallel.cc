#include "worker/model/tensor_parallel.h"

#include <torch/torch.h>

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The graph lives within one micro-batch, the Comm as long as the mesh, so the graph may keep its address.
struct CommAddress : torch::CustomClassHolder {
  explicit CommAddress(mesh::Comm* address) : comm(address) {}
  mesh::Comm* comm;
};
void keep_comm(AutogradContext* context, mesh::Comm* comm) {
  context->saved_data["comm"] = c10::IValue::make_capsule(c10::make_intrusive<CommAddress>(comm));
}
mesh::Comm& kept_comm(AutogradContext* context) {
  return *c10::static_intrusive_pointer_cast<CommAddress>(context->saved_data["comm"].toCapsule())->comm;
}

at::Tensor summed(const at::Tensor& x, mesh::Comm& comm) {
  at::Tensor sum = x.clone(at::MemoryFormat::Contiguous);
  comm.all_reduce(sum, mesh::ReduceOp::kSum);
  return sum;
}

struct EnterParallel : torch::autograd::Function<EnterParallel> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, mesh::Comm* comm) {
    keep_comm(context, comm);
    return x.view_as(x);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {summed(gradients[0], kept_comm(context)), {}};
  }
};

struct LeaveParallel : torch::autograd::Function<LeaveParallel> {
  static at::Tensor forward(AutogradContext* context, at::Tensor x, mesh::Comm* comm) {
    comm->all_reduce(x, mesh::ReduceOp::kSum);
    context->mark_dirty({x});
    return x;
  }
  static variable_list backward(AutogradContext*, variable_list gradients) { return {gradients[0], {}}; }
};

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits_NV, const at::Tensor& targets_N,
                            std::int64_t first_class, std::int64_t num_classes, mesh::Comm* comm, const contract::Loss& terms) {
    at::Tensor most_N1 = logits_NV.amax(-1, true);
    comm->all_reduce(most_N1, mesh::ReduceOp::kMax);
    at::Tensor shifted_NV = logits_NV - most_N1;
    const at::Tensor local_N = targets_N - first_class;
    const at::Tensor mine_N = local_N.ge(0).logical_and(local_N.lt(logits_NV.size(1)));
    const at::Tensor index_N1 = local_N.clamp(0, logits_NV.size(1) - 1).unsqueeze(-1);
    const at::Tensor picked_N1 = shifted_NV.gather(-1, index_N1) * mine_N.unsqueeze(-1);
    at::Tensor exponents_NV = shifted_NV.exp_();
    // One exchange for both: the sum of exponentials, and the target's logit, which one rank has and the others give as 0.
    at::Tensor both_N2 = at::cat({exponents_NV.sum(-1, true), picked_N1}, -1);
    comm->all_reduce(both_N2, mesh::ReduceOp::kSum);
    const at::Tensor total_N1 = both_N2.narrow(-1, 0, 1), log_total_N1 = total_N1.log();
    const at::Tensor log_sum_N1 = terms.zLoss > 0 ? log_total_N1 + most_N1 : at::Tensor();
    context->save_for_backward({exponents_NV.div_(total_N1), index_N1, mine_N, log_sum_N1});
    context->saved_data["smoothing"] = terms.labelSmoothing;
    context->saved_data["z"] = terms.zLoss;
    context->saved_data["classes"] = num_classes;
    return (log_total_N1 - both_N2.narrow(-1, 1, 1)).sum();
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const double smoothing = context->saved_data["smoothing"].toDouble(), z = context->saved_data["z"].toDouble();
    at::Tensor gradient_NV = z > 0 ? saved[0] * (1 + 2 * z * saved[3]) : saved[0].clone();
    gradient_NV.scatter_add_(-1, saved[1], saved[2].unsqueeze(-1).to(gradient_NV.dtype()).mul_(smoothing - 1));
    if (smoothing > 0) gradient_NV.sub_(smoothing / static_cast<double>(context->saved_data["classes"].toInt()));
    return {gradient_NV.mul_(gradients[0]), {}, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor enter_parallel(const at::Tensor& x, mesh::Comm& comm) { return EnterParallel::apply(x, &comm); }

at::Tensor leave_parallel(const at::Tensor& x, mesh::Comm& comm) { return LeaveParallel::apply(x, &comm); }

at::Tensor vocabulary_parallel_embedding(const at::Tensor& tokens_BT, const at::Tensor& weight_VD, std::int64_t first_row) {
  const at::Tensor local_BT = tokens_BT - first_row;
  const at::Tensor mine_BT = local_BT.ge(0).logical_and(local_BT.lt(weight_VD.size(0)));
  const at::Tensor rows_BTD = at::embedding(weight_VD, local_BT.clamp(0, weight_VD.size(0) - 1));
  return rows_BTD * mine_BT.unsqueeze(-1).to(rows_BTD.dtype());
}

at::Tensor vocabulary_parallel_cross_entropy(const at::Tensor& logits_NV, const at::Tensor& targets_N, std::int64_t first_class,
                                             std::int64_t num_classes, mesh::Comm& comm, const contract::Loss& terms) {
  return CrossEntropy::apply(logits_NV, targets_N, first_class, num_classes, &comm, terms);
}

}  // namespace trainyard::model
