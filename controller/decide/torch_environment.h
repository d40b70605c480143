#pragma once
// How the program of a worker with the engine Custom finds its place: the environment variables of PyTorch's env:// initialization and
// of torchrun, and the name by which all find worker 0.

#include <cstdint>

#include "controller/decide/pod_template.h"

namespace trainyard::decide {

/// As torch.distributed.run defines them (https://pytorch.org/docs/stable/elastic/run.html): LOCAL_WORLD_SIZE processes a worker,
/// WORLD_SIZE in all, RANK the rank of the worker's first process, NODE_RANK its index; MASTER_ADDR is worker 0 (localhost where it is the only
/// one). torchrun itself reads its options from PET_<OPTION> (torch/distributed/argparse_util.py), as Kubeflow's Trainer sets them, and gives each of its processes a
/// RANK of its own. A list of EnvVar.
Json torch_environment(const Job& job, const WorkerPlace& place);

/// Whether a gang of so many workers has names to look up: with the engine Custom, of several. The program of a lone one meets itself, at
/// localhost.
bool needs_service(const Job& job, std::int32_t workers);

/// The headless Service whose DNS has the workers' names. Its name begins with a letter, which a job's need not; and it holds digits of
/// the UID, since that of a deleted job of the same name may still be there, and is about to go.
ObjectKey workers_service(const Job& job);

}  // namespace trainyard::decide
