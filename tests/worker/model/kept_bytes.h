#pragma once
// What a forward pass keeps for the backward pass, measured.

#include <atomic>
#include <cstdint>
#include <memory>

#include <ATen/ATen.h>

#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/mesh/ranks.h"
#include "tests/worker/model/live_bytes.h"
#include "tests/worker/trainer/small_job.h"
#include "worker/model/llama.h"

namespace trainyard::model {

struct KeptBytes {
  std::int64_t device = 0, host = 0;
};

/// Bytes that the graph of the middle stage's forward pass keeps in a pipeline of three, on all ranks of the stage, its input left out and its
/// output counted. With activationCheckpointing.offload `tp` has to be 1.
inline KeptBytes bytes_kept(contract::TrainingJobSpec spec, std::int32_t tp = 1) {
  const auto layout = trainer::layout_of(spec, {.pp = 3, .tp = tp});
  KeptBytes kept;
  test::LiveBytes live;
  const auto measure = [&](mesh::Mesh& mesh, const std::atomic<std::int64_t>& host) {
    Parameters parameters(spec, mesh);
    parameters.initialize(1);
    LlamaStage stage(*spec.model.size, parameters, mesh, {}, spec.training, spec.parallelism.sequence);
    const auto options = at::TensorOptions().dtype(parameters.compute_type());
    const std::int64_t tokens = spec.data.sequenceLength / (spec.parallelism.sequence ? tp : 1);
    const at::Tensor input = at::ones({2, tokens, spec.model.size->hiddenSize}, options).requires_grad_();
    const bool measured = mesh.at().pp == 1;
    if (measured) stage.forward(input);  // makes the table of the rotary embedding
    mesh.world().barrier();
    const std::int64_t before = live.now();
    mesh.world().barrier();
    at::Tensor output;
    if (measured) output = stage.forward(input);
    mesh.world().barrier();
    if (measured && mesh.at().tp == 0) kept = {.device = live.now() - before - host, .host = host};
    mesh.world().barrier();
  };
  mesh::run_ranks(layout, [&](mesh::Mesh& plain) {
    std::atomic<std::int64_t> host = 0;
    if (!spec.training.activationCheckpointing.offload) return measure(plain, host);
    auto mesh = mesh::late_on(plain, at::kCPU, std::make_unique<mesh::LateLink>(1, &host));
    measure(mesh, host);
  });
  return kept;
}

}  // namespace trainyard::model
