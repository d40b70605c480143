#pragma once
// What the reconciler does, told to logs and metrics.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "controller/decide/cluster.h"
#include "controller/reconcile/work_queue.h"
#include "crds/contract/fields.h"

namespace trainyard::reconcile {

/// Called on the brain; must return soon. What is not overridden is not observed.
class Observer {
 public:
  virtual ~Observer() = default;
  /// A plan was made for the key; `reasons` are for the debug log, `num_actions` is often 0.
  virtual void planned(const Key& /*key*/, const std::vector<std::string>& /*reasons*/, std::size_t /*num_actions*/,
                       std::chrono::microseconds /*took*/) {}
  /// The API server answered; status 0: it did not.
  virtual void requested(std::string_view /*kind*/, int /*status*/, std::chrono::milliseconds /*took*/) {}
  /// What was decided on the key is done, or could not be; `took`: since there was a cause to look at it.
  virtual void reconciled(const Key& /*key*/, std::chrono::milliseconds /*took*/) {}
  /// A job's status was written, in the place of `before`. The job itself may have either already: the watch can be faster than the answer.
  virtual void wrote(const decide::Cluster& /*cluster*/, const decide::Job& /*job*/,
                     const contract::TrainingJobStatus& /*before*/, const contract::TrainingJobStatus& /*after*/,
                     contract::Time /*now*/) {}
  /// Something an operator may have to act on; `message` is constant.
  virtual void warned(std::string_view /*message*/, const contract::Json& /*details*/) {}
  /// This controller acts (the lists of a new leader are in), or no longer does.
  virtual void acting(bool /*now*/) {}
};

}  // namespace trainyard::reconcile
