#pragma once
// What AgentService serves: somebody who takes assignments and has a state. Agent is the real one; tests have one whose ranks only
// pretend to train.

#include <cstdint>
#include <vector>

#include "worker/agent/agent_core.h"

namespace trainyard::agent {

/// Lives on the io_context's one thread.
class Assignee {
 public:
  virtual ~Assignee() = default;
  /// The answer's actions have been performed.
  virtual Answer assign(const contract::Assignment& assignment) = 0;
  /// The same of one whose spec has what this program does not know; `problems` says what.
  virtual Answer assign_unknown(const contract::Assignment& assignment, const std::vector<contract::Problem>& problems) = 0;
  /// A controller that has the job's key asks for the state.
  virtual void asked() = 0;
  virtual const contract::State& state() const = 0;
  virtual std::int64_t ranks_started() const = 0;
  virtual std::int64_t ranks_failed() const = 0;
  virtual const Measured& measured() const = 0;
};

}  // namespace trainyard::agent
