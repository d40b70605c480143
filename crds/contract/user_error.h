#pragma once
// What the user must set right before a restart can help: the manifest, the corpus, the volumes. A rank reports it as a failure of
// class User with this reason and message, and ends with kUserErrorExitCode.

#include <stdexcept>
#include <string>
#include <utility>

namespace trainyard::contract {

class UserError : public std::runtime_error {
 public:
  /// `reason` is CamelCase and short (CorpusMissing); `message` names the field, says what is wrong and what to do.
  UserError(std::string reason, const std::string& message) : std::runtime_error(message), reason_(std::move(reason)) {}
  const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

}  // namespace trainyard::contract
