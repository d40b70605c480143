#include "worker/agent/rank_exit.h"

#include <csignal>
#include <cstring>

namespace trainyard::agent {
namespace {

using contract::FailureClass;

/// Class, reason and message of a rank that said nothing itself.
contract::Failure from_exit(const RankExit& exit) {
  contract::Failure failure;
  const std::string rank = "rank " + std::to_string(exit.rank);
  if (!exit.could_not_start.empty()) {
    failure.failureClass = FailureClass::kInfrastructure;
    failure.reason = "RankNotStarted";
    failure.message = rank + " could not be started: " + exit.could_not_start;
  } else if (exit.signal == SIGKILL && exit.out_of_memory) {
    failure.reason = "OutOfMemory";
    failure.message = rank +
                      " was killed by the kernel, since there was no memory left; raise the memory limit and request of the "
                      "worker's container, or lower parallelism.microBatchSize";
  } else if (exit.signal != 0) {
    failure.reason = "RankCrashed";
    failure.message = rank + " was ended by " + contract::signal_name(exit.signal);
    if (exit.signal == SIGKILL) failure.message += ", which the kernel sends where a node has no memory left";
  } else if (exit.exit_code == contract::kUserErrorExitCode) {
    failure.failureClass = FailureClass::kUser;
    failure.reason = "UserError";
    failure.message = rank + " refused its configuration or its data; its last lines say why";
  } else if (exit.exit_code == contract::kPeerLostExitCode) {
    failure.failureClass = FailureClass::kTransient;
    failure.reason = "PeerLost";
    failure.message = rank + " lost the connection to another rank";
  } else {
    failure.reason = exit.exit_code == contract::kEngineErrorExitCode ? "EngineError" : "RankCrashed";
    failure.message = rank + " ended with exit code " + std::to_string(exit.exit_code);
  }
  return failure;
}

/// Lines come from anywhere; JSON holds UTF-8 only.
std::string as_utf8(const std::string& text) {
  const contract::Json json = text;
  return contract::Json::parse(json.dump(-1, ' ', false, contract::Json::error_handler_t::replace)).get<std::string>();
}

}  // namespace

ExitKind kind_of(const RankExit& exit) {
  if (!exit.could_not_start.empty() || exit.signal != 0) return ExitKind::kFailed;
  switch (exit.exit_code) {
    case contract::kFinishedExitCode: return ExitKind::kFinished;
    case contract::kStoppedExitCode: return ExitKind::kStopped;
    case contract::kPeerLostExitCode: return ExitKind::kPeerLost;
    default: return ExitKind::kFailed;
  }
}

contract::Failure failure_of(const RankExit& exit, const std::optional<contract::Failure>& reported, const Worker& worker,
                             std::int32_t worker_index, contract::Time at) {
  contract::Failure failure = from_exit(exit);
  if (reported) {
    failure.failureClass = reported->failureClass;
    if (!reported->reason.empty()) failure.reason = reported->reason;
    if (!reported->message.empty()) failure.message = reported->message;
  }
  failure.worker = worker_index;
  failure.rank = exit.rank;
  if (!worker.node.empty()) failure.node = worker.node;
  if (exit.could_not_start.empty()) {
    failure.exitCode = exit.signal != 0 ? 128 + exit.signal : exit.exit_code;  // as shells and kubelets count signals
    if (exit.signal != 0) failure.signal = contract::signal_name(exit.signal);
  }
  for (const auto& line : exit.last_lines) failure.lastLines.push_back(as_utf8(line));
  failure.message = as_utf8(failure.message);
  failure.at = contract::to_rfc3339(at);
  return contract::trimmed(std::move(failure));
}

}  // namespace trainyard::agent
