#pragma once
// Nodes on which a job met failures of their own (status.avoidedNodes): it goes elsewhere, while there is room elsewhere, and the longer the
// more often a node has failed it. The status is the only memory.

#include <map>
#include <set>
#include <string>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// By name, with the reason, the nodes that are at fault for the gang's failure, of which `cause` is the first: of the workers whose
/// failures are their nodes' (Worker::blames_node), of those that their nodes kept from coming up (start_timeout.h), and one whose
/// connections break again and again (lost_connections.h). None where those would be most of the gang's nodes: what they share, as
/// storage or a network, is none's fault.
std::map<std::string, std::string> failing_nodes(const Review& review, const contract::Failure& cause);

/// Notes those of the failure that is in the status.
void note_failing_nodes(Review& review);

/// One failure a node and generation.
void note_failing_node(Review& review, const std::string& node, const std::string& reason);

/// Where the job's pods are better not put now.
std::set<std::string> avoided_nodes(const Job& job, Time now);

/// The pod is one of those that were there when its node failed: it is not used again.
bool is_on_failed_node(const contract::TrainingJobStatus& status, const Pod& pod);

}  // namespace trainyard::decide
