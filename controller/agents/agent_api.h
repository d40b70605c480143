#pragma once
// The agents of all worker pods as the rest of the controller sees them. The real one is a Beast client on one thread; the
// simulator's answers in virtual time.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "crds/contract/assignment.h"
#include "crds/contract/state.h"

namespace trainyard::agents {

/// An agent to poll, and what it should be told. The key is the job key of crds/contract/signature.h.
struct Target {
  std::string pod_uid;
  std::string address;  // pod IP:port
  std::string key;
  std::optional<contract::Assignment> assignment;  // nothing: poll only
  bool operator==(const Target&) const = default;
};

/// What was learnt of an agent since the last time.
struct Observation {
  std::string pod_uid;
  std::optional<contract::State> state;  // nothing: it did not answer
  std::string error;       // why not: "connect to 10.244.1.7:8471: timed out", "signature does not verify"; or, with
                           // a state, why it does not take its assignment
  bool other_key = false;  // it answered that it does not know our key (401)
};
using ObservationSink = std::function<void(Observation)>;

/// Level-based: the caller says which agents there are and what each should do; the implementation polls them (one long poll each),
/// PUTs an assignment whenever it differs from the last one that this pod accepted, and backs off from those that do not answer.
class AgentApi {
 public:
  virtual ~AgentApi() = default;
  /// Of these pods, by UID, the targets are others now; where there is none, the pod is not polled any more. Called on the brain; does
  /// not block.
  virtual void change_targets(std::map<std::string, std::optional<Target>> by_pod_uid) = 0;
};

}  // namespace trainyard::agents
