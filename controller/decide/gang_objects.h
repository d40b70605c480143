#pragma once
// What a gang's pods need beside themselves.
//
// Where the API server has Workload and PodGroup (scheduling.k8s.io/v1beta1, Kubernetes 1.37 with the feature gate GenericWorkload), a gang is
// one of these too: other tools see it as a whole, and a kube-scheduler with that gate binds its pods together or not at all (KEP-4671).

#include <cstdint>
#include <string>
#include <vector>

#include "controller/decide/plan.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {

/// The Secret with the job's key, where its pods have an agent; with the engine Custom and several workers the headless Service; and where
/// the pods are of a PodGroup that has yet to be made, that with its Workload. To be created before the pods; all of it may exist already.
/// `workers`: how many the gang has.
std::vector<Action> gang_objects(const Job& job, const Settings& settings, std::int32_t workers, bool needs_group);

/// The Workload and PodGroup of a gang that is made whole. They are named by the job's UID, since those of a deleted job of the same name may
/// still be there, and by the least number of workers, which an edit of the job may change: minCount, or count. A smaller gang
/// (elastic.h) is of the same group, so that pods that stay and pods that are added never are of two.
GangGroup gang_group(const Job& job);

/// The group that pods which are made now belong to; empty: none. Beside pods that are kept it is theirs, whatever the server has learnt
/// since: kube-scheduler would wait for the rest of a group that has only the new ones.
std::string group_of_new_pods(const Job& job, const GangView& gang, bool keeps_some, const Settings& settings);

}  // namespace trainyard::decide
