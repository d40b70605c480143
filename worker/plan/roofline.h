#pragma once
// The least time that an optimizer step can take, and so the most of its GPUs' peak that a job can use (MFU), before it runs.
//
// As a roofline (Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009): each part of the machine works at its peak, and what can be done
// at the same time is. Letters: m micro-batches a step of a data rank, of B·T tokens; t tensor-parallel ranks; p stages; peaks a second.
//   compute    of the stage with most: m · B·T · (operations of its layers and its head (cost.h), and those done again) / t / peak
//   tensor     of the same stage: bytes that a rank sends in its tensor group (traffic.h) / the link's peak, where the node's switches add up
//              (NVLink SHARP) times (1 + 1/t) / (2(t − 1)/t) at the most. Each layer waits for them; not counted are those that go beside
//              products
//   idle       (compute + tensor) · what a stage waits in proportion (pipeline.h): (p − 1)/m; Interleaved that by its v chunks; ZeroBubble as
//              there, with W a third of the model's own operations
//   network    given: of the level of the topology that takes longest, beside forward and backward
//   host       the longer way of what offload sends (offload_cost.h) / PCIe's peak, the same
//   optimizer  the longer way of what offload sends in the optimizer's step, after it: not the gradients
//   step       max(compute + tensor + idle, network, host) + optimizer
//   mfu        operations of the model for a global batch / (step · ranks · peak)
// Since the stage with most has at least its share, 0 < mfu <= 1 whatever the layout. Left out, so that what runs is slower: that products come
// near the peak at no size, latencies, the pipeline's and the data rings' hops inside a node, GPU memory, the optimizer's arithmetic (the
// CPU's with offload), input and checkpoints.
// Operations: Narayanan et al., arXiv:2104.04473, and Chowdhery et al., "PaLM", arXiv:2204.02311, appendix B, for MFU.

#include "crds/contract/job.h"
#include "worker/plan/device.h"

namespace trainyard::plan {

/// In seconds.
struct StepTime {
  double compute = 0;
  double tensor = 0;
  double idle = 0;
  double network = 0;
  double host = 0;
  double optimizer = 0;

  double busy() const { return compute + tensor + idle; }
  double step() const;
  bool operator==(const StepTime&) const = default;
};

/// Of a job of the engine Trainyard on GPUs whose spec was accepted, of which each has a device like this one with a peak for its format.
/// `network_seconds`: what its links need at least.
StepTime step_time(const contract::TrainingJobSpec& spec, const Device& device, double peak_flops, double network_seconds);

/// At that time; more than 0 and at most 1.
double model_flops_utilization(const contract::TrainingJobSpec& spec, double peak_flops, const StepTime& time);

}  // namespace trainyard::plan
