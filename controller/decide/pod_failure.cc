#include "controller/decide/pod_failure.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/decide/node_health.h"
#include "crds/contract/state.h"

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureClass;

Failure about(const Pod& pod) {
  Failure failure;
  failure.worker = pod.worker->worker;
  if (!pod.node.empty()) failure.node = pod.node;
  return failure;
}

// A shell and the container runtime tell of a signal by the exit code 128 + its number; there are 64.
constexpr std::int32_t kSignalled = 128, kSignals = 65;

/// Those with a letter or digit: empty ones and rulers tell nothing.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const auto tells = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
    if (std::any_of(line.begin(), line.end(), tells)) lines.push_back(line);
  }
  return lines;
}

struct RootCause {
  std::int32_t rank = 0, exit_code = 0;  // below 0: minus a signal's number
};

/// The number after `name` and a colon, as in "  exitcode  : -9 (pid: 17)".
std::optional<std::int32_t> number_in(const std::string& line, std::string_view name) {
  const auto at = line.find_first_not_of(' ');
  if (at == std::string::npos || line.compare(at, name.size(), name) != 0) return std::nullopt;
  const auto colon = line.find(": ", at);
  if (colon == std::string::npos) return std::nullopt;
  std::int32_t value = 0;
  const auto [end, error] = std::from_chars(line.data() + colon + 2, line.data() + line.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

/// What torchrun says last (torch/distributed/elastic/multiprocessing/errors, ChildFailedError).
std::optional<RootCause> torchrun_root_cause(const std::vector<std::string>& lines) {
  const auto from = std::find_if(lines.begin(), lines.end(), [](const std::string& line) {
    return line.find("Root Cause (first observed failure)") != std::string::npos;
  });
  std::optional<std::int32_t> rank, exit_code;
  for (auto line = from; line != lines.end(); ++line) {
    if (!rank) rank = number_in(*line, "rank");
    if (!exit_code) exit_code = number_in(*line, "exitcode");
  }
  if (!rank || !exit_code) return std::nullopt;
  return RootCause{*rank, *exit_code};
}

std::string said(const std::string& text) { return text.empty() ? "" : ": " + text; }

}  // namespace

Failure worker_gone(std::int32_t worker) {
  Failure failure{.failureClass = FailureClass::kInfrastructure, .worker = worker, .reason = "WorkerDeleted"};
  failure.message = "the pod of worker " + std::to_string(worker) + " is gone: somebody deleted it, or its node was removed";
  return failure;
}

Failure pod_ended(const Pod& pod) {
  Failure failure = about(pod);
  const auto& worker = *pod.worker;
  failure.exitCode = worker.exit_code;
  if (worker.exited_at) failure.at = contract::to_rfc3339(*worker.exited_at);
  const std::string name = "pod " + to_text(pod.key);
  if (!worker.reason.empty()) {  // the kubelet or the node controller ended it: Evicted, Terminated, NodeLost, Shutdown
    failure.reason = worker.reason;
    failure.message = name + " was ended" + said(worker.message);
  } else if (worker.exit_reason == "OOMKilled") {
    failure.reason = "OutOfMemory";
    failure.message =
        name + (worker.memory_limited
                    ? " was killed, since its container had used up its memory; raise the container's memory limit, or "
                      "have it use less"
                    : " was killed, since its node had no memory left; give the container a memory request and limit");
  } else if (worker.exit_reason == "StartError" || worker.exit_reason == "ContainerCannotRun") {
    failure.reason = "ContainerNotStarted";
    failure.message = name + "'s container could not be started" + said(worker.exit_message) +
                      "; look at command, args and volumeMounts of spec.workers.template";
  } else {
    failure.reason = "WorkerExited";
    const std::string code = worker.exit_code ? " with exit code " + std::to_string(*worker.exit_code) : "";
    const bool has_a_cause =
        worker.exit_reason != "Error" && worker.exit_reason != "Completed";  // the kubelet's two words for none
    failure.message = name + "'s container ended" + code + " without a last word of its agent" +
                      (has_a_cause ? said(worker.exit_reason) : "") +
                      "; its log says more. Where command or args of spec.workers.template start another program than "
                      "`trainyard-worker agent`, leave them out";
  }
  return failure;
}

Failure program_ended(const Pod& pod) {
  Failure failure = pod_ended(pod);
  if (failure.reason != kProgramExited) return failure;
  const auto& worker = *pod.worker;
  failure.lastLines = lines_of(worker.exit_message);
  failure.message = "the program of pod " + to_text(pod.key);
  if (const auto root = torchrun_root_cause(failure.lastLines)) {
    failure.rank = root->rank;
    failure.exitCode = root->exit_code < 0 ? kSignalled - root->exit_code : root->exit_code;
    failure.message = "rank " + std::to_string(root->rank) + " of pod " + to_text(pod.key);
  }
  failure.message += " ended";
  const auto code = failure.exitCode;
  if (code && *code > kSignalled && *code < kSignalled + kSignals) {
    failure.signal = contract::signal_name(*code - kSignalled);
    failure.message += " by " + *failure.signal;
  } else if (code) {
    failure.message += " with exit code " + std::to_string(*code);
  }
  return failure;
}

std::string words_of_end(const Failure& failure, const std::string& telling_line) {
  if (!telling_line.empty()) return ": " + telling_line;
  return failure.lastLines.empty() ? "; its log says more" : ": " + failure.lastLines.back();
}

void tell_of_memory_pressure(Failure& failure, const Pod& pod) {
  if (failure.reason == "OutOfMemory") failure.message = "pod " + to_text(pod.key) + " was killed";
  failure.message += ", since its node " + pod.node + " had no memory left: it has the condition MemoryPressure";
}

Failure pod_lost(const Pod& pod, const char* reason, const std::string& how, Time since) {
  Failure failure = about(pod);
  failure.failureClass = FailureClass::kInfrastructure;
  failure.reason = reason;
  failure.message = "pod " + to_text(pod.key) + " is lost: " + how;
  failure.at = contract::to_rfc3339(since);
  return failure;
}

Failure pod_deleted(const Cluster& cluster, const Pod& pod, const std::string& how, Time since) {
  const auto departure = must_leave(cluster, pod);
  return departure ? pod_lost(pod, departure->reason, departure->why, since) : pod_lost(pod, "WorkerDeleted", how, since);
}

}  // namespace trainyard::decide
