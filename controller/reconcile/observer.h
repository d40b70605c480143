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
  /// A job's status was written, in the place of that of `before`.
  virtual void wrote(const decide::Job& /*before*/, const contract::TrainingJobStatus& /*status*/, contract::Time /*now*/) {}
  /// Something an operator may have to act on; `message` is constant.
  virtual void warned(std::string_view /*message*/, const contract::Json& /*details*/) {}
  /// This controller acts (the lists of a new leader are in), or no longer does.
  virtual void acting(bool /*now*/) {}
};

}  // namespace trainyard::reconcile
