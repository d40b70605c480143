#pragma once
// The trace of a job: how it comes from `kubectl apply` to its first step, and back there after each failure.
//
// All times are those of the API's objects (a status' conditions and its failure, the pods' creation and their containers' start), in
// whole seconds, and all ids follow from the job's UID, its gang's generation and these times. So nothing is remembered between a phase's
// begin and its end, and whoever leads at the end tells the whole of it.

#include <vector>

#include "controller/decide/cluster.h"
#include "controller/observe/span.h"

namespace trainyard::reconcile {

/// What has come to its end with the write of `after` in the place of `before`, of a job in `cluster`:
/// - a start, with its phases as children: accept, admit (a queue's quota), place, create pods, schedule pods (binding Scheduler), start
///   workers, initialise. It ends with the first step; or with a failure, which is an event of it and of the phase that it was in; or
///   when the job gives its place back before it ran. The first one, from the job's creation on, is the root of the trace; those after a
///   failure, a resume or whatever else stopped the gang are its children.
/// - `train`, from a first step to the gang's stop, a child of the root too.
/// The trace's id is the job's UID without its hyphens; where the annotation trainyard.dev/traceparent has a W3C traceparent, the root is a
/// child of that span, and where that is not sampled there are no spans. `now` bounds the times of other clocks, and ends a start that is
/// followed by a wait for the next one, of whose failure the status tells only then.
std::vector<observe::Span> ended_spans(const decide::Cluster& cluster, const decide::Job& job,
                                       const contract::TrainingJobStatus& before, const contract::TrainingJobStatus& after,
                                       contract::Time now);

}  // namespace trainyard::reconcile
