#include "controller/decide/pod_failure.h"

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>
#include <vector>

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

/// What a container runtime says of a command that is not in the image, or is no program.
bool is_users(const std::string& runtime_message) {
  const auto has = [&](const char* words) { return runtime_message.find(words) != std::string::npos; };
  return has("executable file not found") || has("no such file or directory") || has("permission denied") ||
         has("exec format error");
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
    failure.failureClass = FailureClass::kInfrastructure;
    failure.reason = worker.reason;
    failure.message = name + " was ended" + said(worker.message);
  } else if (worker.exit_reason == "OOMKilled") {
    failure.reason = "OutOfMemory";
    failure.message = name +
                      " was killed, since its container had used up its memory; raise the container's memory limit, or lower "
                      "parallelism.microBatchSize";
  } else if (worker.exit_reason == "StartError" || worker.exit_reason == "ContainerCannotRun") {
    failure.failureClass = is_users(worker.exit_message) ? FailureClass::kUser : FailureClass::kUnknown;
    failure.reason = "ContainerNotStarted";
    failure.message = name + "'s container could not be started" + said(worker.exit_message) +
                      "; look at command, args and volumeMounts of spec.workers.template";
  } else {
    failure.reason = "WorkerExited";
    const std::string code = worker.exit_code ? " with exit code " + std::to_string(*worker.exit_code) : "";
    failure.message = name + "'s container ended" + code + " without a last word of its agent" + said(worker.exit_reason) +
                      "; its log says more, where it runs another program than `trainyard-worker agent`";
  }
  return failure;
}

Failure program_ended(const Pod& pod) {
  Failure failure = pod_ended(pod);
  if (failure.reason != "WorkerExited") return failure;
  const auto& worker = *pod.worker;
  failure.lastLines = lines_of(worker.exit_message);
  failure.message = "the program of pod " + to_text(pod.key) + " ended";
  if (worker.exit_code && *worker.exit_code > kSignalled && *worker.exit_code < kSignalled + kSignals) {
    failure.signal = contract::signal_name(*worker.exit_code - kSignalled);
    failure.message += " by " + *failure.signal;
  } else if (worker.exit_code) {
    failure.message += " with exit code " + std::to_string(*worker.exit_code);
  }
  failure.message += failure.lastLines.empty() ? "; its log says more" : ": " + failure.lastLines.back();
  return failure;
}

bool tells_of_a_lost_peer(const Pod& pod) {
  static constexpr std::array<const char*, 8> kWords{
      "Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe",
      "ncclRemoteError",           "remote process exited",    "Socket closed",      "SocketTimeout"};
  const auto& text = pod.worker->exit_message;
  return std::any_of(kWords.begin(), kWords.end(), [&text](const char* words) { return text.find(words) != std::string::npos; });
}

Failure pod_lost(const Pod& pod, const char* reason, const std::string& how, Time since) {
  Failure failure = about(pod);
  failure.failureClass = FailureClass::kInfrastructure;
  failure.reason = reason;
  failure.message = "pod " + to_text(pod.key) + " is lost: " + how;
  failure.at = contract::to_rfc3339(since);
  return failure;
}

}  // namespace trainyard::decide
