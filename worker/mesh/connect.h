#pragma once
// How the ranks of a gang's generation find each other.

#include <memory>

#include "crds/contract/assignment.h"
#include "worker/mesh/mesh.h"

namespace trainyard::mesh {

/// Connects this rank with all others of the layout: rank 0 listens at the rendezvous with a TCPStore, keys lie under
/// `<job uid>/<generation>`, and Gloo (or NCCL, with GPUs) connects the groups from `bindAddress`. A world of one rank needs no network.
/// Waits lifecycle.startTimeoutSeconds for the others. With lifecycle.hangTimeoutSeconds it is the agents, which see who hangs, that end a
/// call: a group by itself gives one up after twice that time, startTimeoutSeconds and half a minute, when no agent can have been in time;
/// without it after 300 s. The groups tell `timeline` of their calls.
/// Throws PeerLost when they do not come; std::runtime_error when rank 0 cannot listen; contract::UserError (GpuUnavailable) when GPUs are
/// asked of a program without CUDA.
std::unique_ptr<Mesh> connect(const contract::RankConfig& config,
                              std::shared_ptr<Timeline> timeline = std::make_shared<Timeline>());

}  // namespace trainyard::mesh
