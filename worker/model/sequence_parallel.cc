#include "worker/model/sequence_parallel.h"

#include <memory>
#include <utility>

#include <torch/torch.h>

#include "worker/model/fp8.h"
#include "worker/model/recompute.h"

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The graph lives within one micro-batch, groups and weights as long as the training, so the graph may keep their addresses.
struct Surroundings : torch::CustomClassHolder {
  Surroundings(mesh::Comm* group, Multiplying manner) : comm(group), how(std::move(manner)) {}
  mesh::Comm* comm;
  Multiplying how;
};
void keep_surroundings(AutogradContext* context, mesh::Comm* comm, Multiplying how = {}) {
  context->saved_data["around"] = c10::IValue::make_capsule(c10::make_intrusive<Surroundings>(comm, std::move(how)));
}
c10::intrusive_ptr<Surroundings> kept_surroundings(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<Surroundings>(context->saved_data["around"].toCapsule());
}

/// `x` with `numerator / denominator` times as many tokens.
std::vector<std::int64_t> with_tokens(const at::Tensor& x, std::int64_t numerator, std::int64_t denominator) {
  auto sizes = x.sizes().vec();
  auto& tokens = sizes[sizes.size() - 2];
  TORCH_CHECK(tokens * numerator % denominator == 0, "sequence parallelism: ", denominator, " ranks can't share ", tokens,
              " tokens");
  tokens = tokens * numerator / denominator;
  return sizes;
}

/// A gathering that goes on beside its caller.
class Gathering {
 public:
  Gathering(const at::Tensor& shard, mesh::Comm& comm) : whole_(at::empty(with_tokens(shard, comm.size(), 1), shard.options())) {
    at::Tensor flat = whole_.view({-1});
    pending_ = comm.start_all_gather(flat, shard.reshape({-1}));
  }
  /// Once.
  at::Tensor take() {
    pending_->wait();
    return std::move(whole_);
  }

 private:
  at::Tensor whole_;
  std::unique_ptr<mesh::Pending> pending_;
};

/// The sum over the ranks, of which each gets its shard, beside its caller.
class Scattering {
 public:
  Scattering(const at::Tensor& whole, mesh::Comm& comm) : shard_(at::empty(with_tokens(whole, 1, comm.size()), whole.options())) {
    at::Tensor flat = shard_.view({-1});
    pending_ = comm.start_reduce_scatter(flat, whole.reshape({-1}));
  }
  /// Once.
  at::Tensor take() {
    pending_->wait();
    return std::move(shard_);
  }

 private:
  at::Tensor shard_;
  std::unique_ptr<mesh::Pending> pending_;
};

struct LeaveToShards : torch::autograd::Function<LeaveToShards> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, mesh::Comm* comm) {
    keep_surroundings(context, comm);
    return Scattering(x, *comm).take();
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {gathered(gradients[0], *kept_surroundings(context)->comm), {}};
  }
};

at::Tensor as_matrix(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// Without FP8 the products are those of autograd's own formulas for the matrix product, as in late_weights.cc.
struct Products : torch::autograd::Function<Products> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, at::TensorList weights, mesh::Comm* comm,
                               const Multiplying& how) {
    context->save_for_backward({x});
    // Not as saved variables: those might be packed away, and come back as other tensors.
    context->saved_data["weights"] = weights.vec();
    keep_surroundings(context, comm, how);
    const at::Tensor whole = gathered(x, *comm);
    if (how.fp8) return fp8_multiply(whole, weights, *how.fp8);
    variable_list outputs;
    for (const auto& weight_NK : weights) outputs.push_back(at::linear(whole, weight_NK));
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto around = kept_surroundings(context);
    const auto weights = context->saved_data["weights"].toTensorVector();
    const auto& how = around->how;
    const at::Tensor x = context->get_saved_variables()[0];
    std::optional<Gathering> gathering;
    if (how.late == nullptr) gathering.emplace(x, *around->comm);

    const auto sizes = with_tokens(x, around->comm->size(), 1);
    std::vector<at::Tensor> gradients_MN(weights.size());
    std::vector<Fp8Factor> in_fp8(weights.size());
    at::Tensor of_whole;
    // From the last to the first, as autograd would come to products that were made one after the other.
    for (std::size_t i = weights.size(); i-- > 0;) {
      gradients_MN[i] = as_matrix(gradients[i]);
      if (how.fp8) in_fp8[i] = fp8_gradient(gradients_MN[i], *how.fp8, /*rows=*/how.late == nullptr);
      at::Tensor of_one = how.fp8 ? fp8_gradient_of_input(in_fp8[i], weights[i], *how.fp8, gradients_MN[i].scalar_type())
                                  : gradients_MN[i].mm(weights[i]);
      in_fp8[i].along_columns = {};
      of_whole = of_whole.defined() ? of_whole.add_(of_one) : std::move(of_one);
    }
    Scattering scattering(of_whole.view(sizes), *around->comm);

    variable_list out(1 + weights.size() + 2);
    if (how.late != nullptr) {
      const at::Tensor shard_MK = as_matrix(x);
      for (std::size_t i = weights.size(); i-- > 0;) {
        how.late->keep({.weight_NK = weights[i], .gradient_MN = gradients_MN[i], .x_MK = shard_MK, .shared_among = around->comm});
      }
    } else {
      const at::Tensor whole_MK = as_matrix(gathering->take());
      const Fp8Matrix x_KM = how.fp8 ? fp8_along_rows(whole_MK, *how.fp8) : Fp8Matrix{};
      for (std::size_t i = weights.size(); i-- > 0;) {
        out[1 + i] = how.fp8 ? fp8_gradient_of_weight(in_fp8[i], x_KM, whole_MK.scalar_type()) : gradients_MN[i].t().mm(whole_MK);
        gradients_MN[i].reset();
        in_fp8[i] = {};
      }
    }
    out[0] = scattering.take();
    return out;
  }
};

}  // namespace

at::Tensor gathered(const at::Tensor& shard, mesh::Comm& comm) { return Gathering(shard, comm).take(); }

at::Tensor leave_to_shards(const at::Tensor& x_BTD, mesh::Comm& comm) { return LeaveToShards::apply(x_BTD, &comm); }

std::vector<at::Tensor> gather_and_multiply(const at::Tensor& x_BSD, const std::vector<at::Tensor>& weights, mesh::Comm& comm,
                                            const Multiplying& how) {
  keep_first(x_BSD);
  return Products::apply(x_BSD, at::TensorList(weights), &comm, how);
}

}  // namespace trainyard::model
