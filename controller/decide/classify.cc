#include "controller/decide/classify.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <vector>

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureClass;

constexpr auto kUser = FailureClass::kUser, kInfrastructure = FailureClass::kInfrastructure,
               kTransient = FailureClass::kTransient, kUnknown = FailureClass::kUnknown;

/// Where the words of a rule are looked for.
enum class In {
  kLog,        // in any line
  kGpuLog,     // in any line, where the job asks for GPUs
  kException,  // they are the type of a Python exception that a line begins with
  kPeer,       // in any line: a connection to another worker broke, or none came about
  kRuntime,    // in the words of a container runtime that could not start the container
  kEviction    // in the words of a kubelet that ended the pod
};

struct Rule {
  In in;
  const char* words;
  FailureClass failure_class;
  const char* reason;  // instead of "it ended"
};

// The first rule that matches decides: what tells most comes first. Words are parts of what the source prints, short enough to outlive its
// next version. To add one, add faults of its kind to tests/controller/decide/faults.yaml.
constexpr auto kRules = std::to_array<Rule>({
    // kubelet, pkg/kubelet/eviction/helpers.go: a limit of the pod's own was exceeded. All other evictions are the node's.
    {In::kEviction, "exceeds the total limit", kUser, nullptr},
    {In::kEviction, "exceeded its local ephemeral storage limit", kUser, nullptr},
    {In::kEviction, "Usage of EmptyDir volume", kUser, nullptr},
    // kubelet, status.reason DeadlineExceeded of an activeDeadlineSeconds in the template.
    {In::kEviction, "longer than the specified deadline", kUser, nullptr},

    // runc, containerd, the NVIDIA container toolkit (hooks of the runtime come before the command is looked for).
    {In::kRuntime, "nvidia-container-cli", kInfrastructure, nullptr},
    {In::kRuntime, "nvml error", kInfrastructure, nullptr},
    {In::kRuntime, "deadline exceeded", kInfrastructure, nullptr},
    {In::kRuntime, "no space left on device", kInfrastructure, nullptr},
    {In::kRuntime, "OOM-killed", kUser, nullptr},  // of the container's own limit
    {In::kRuntime, "executable file not found", kUser, nullptr},
    {In::kRuntime, "no such file or directory", kUser, nullptr},
    {In::kRuntime, "permission denied", kUser, nullptr},
    {In::kRuntime, "exec format error", kUser, nullptr},

    // The NVIDIA driver (Xid), the CUDA runtime's error strings (driver_types.h), NVML.
    {In::kLog, "uncorrectable ECC error", kInfrastructure, "GpuFailed"},
    {In::kLog, "uncorrectable NVLink error", kInfrastructure, "GpuFailed"},
    {In::kLog, "ERROR_ECC_UNCORRECTABLE", kInfrastructure, "GpuFailed"},
    {In::kLog, "fallen off the bus", kInfrastructure, "GpuFailed"},
    {In::kLog, "NVRM: Xid", kInfrastructure, "GpuFailed"},
    {In::kLog, "GPU is lost", kInfrastructure, "GpuFailed"},
    {In::kLog, "busy or unavailable", kInfrastructure, "GpuFailed"},
    {In::kLog, "Driver/library version mismatch", kInfrastructure, "GpuFailed"},
    {In::kLog, "Failed to initialize NVML", kInfrastructure, "GpuFailed"},
    {In::kLog, "system not yet initialized", kInfrastructure, "GpuFailed"},
    {In::kGpuLog, "No CUDA GPUs are available", kInfrastructure, "GpuFailed"},
    {In::kGpuLog, "no CUDA-capable device is detected", kInfrastructure, "GpuFailed"},
    {In::kGpuLog, "Found no NVIDIA driver", kInfrastructure, "GpuFailed"},
    {In::kGpuLog, "CUDA error: unknown error", kInfrastructure, "GpuFailed"},
    {In::kLog, "No CUDA GPUs are available", kUser, "GpuUnavailable"},
    {In::kLog, "no CUDA-capable device is detected", kUser, "GpuUnavailable"},
    {In::kLog, "Found no NVIDIA driver", kUser, "GpuUnavailable"},

    // Memory: c10's CUDACachingAllocator and DefaultCPUAllocator, XLA, NCCL's calls of CUDA.
    {In::kLog, "CUDA out of memory", kUser, "OutOfMemory"},
    {In::kLog, "HIP out of memory", kUser, "OutOfMemory"},
    {In::kLog, "OutOfMemoryError", kUser, "OutOfMemory"},
    {In::kLog, "CUDA error: out of memory", kUser, "OutOfMemory"},
    {In::kLog, "failure 'out of memory'", kUser, "OutOfMemory"},
    {In::kLog, "RESOURCE_EXHAUSTED: Out of memory", kUser, "OutOfMemory"},
    {In::kLog, "CUBLAS_STATUS_ALLOC_FAILED", kUser, "OutOfMemory"},
    {In::kLog, "DefaultCPUAllocator: can't allocate memory", kUser, "OutOfMemory"},
    {In::kException, "MemoryError", kUser, "OutOfMemory"},
    // torch/utils/data/_utils: /dev/shm.
    {In::kLog, "insufficient shared memory", kUser, "OutOfSharedMemory"},
    {In::kLog, "out of shared memory", kUser, "OutOfSharedMemory"},

    // CUDA: the program or its image is not right for this GPU. (An illegal memory access may be either's fault: no rule.)
    {In::kLog, "device-side assert triggered", kUser, "ProgramError"},
    {In::kLog, "no kernel image is available", kUser, "ProgramError"},
    {In::kLog, "invalid device ordinal", kUser, "ProgramError"},
    {In::kLog, "not compiled with CUDA enabled", kUser, "ProgramError"},
    {In::kLog, "driver version is insufficient", kUser, "ProgramError"},
    {In::kLog, "NVIDIA driver on your system is too old", kUser, "ProgramError"},
    {In::kLog, "Duplicate GPU detected", kUser, "ProgramError"},
    {In::kLog, "ncclInvalidUsage", kUser, "ProgramError"},
    {In::kLog, "ncclInvalidArgument", kUser, "ProgramError"},

    // PyTorch's messages of RuntimeError, which tells nothing by its type.
    {In::kLog, "shapes cannot be multiplied", kUser, "ProgramError"},
    {In::kLog, "loading state_dict for", kUser, "ProgramError"},
    {In::kLog, "Sizes of tensors must match", kUser, "ProgramError"},
    {In::kLog, "must match the size of tensor", kUser, "ProgramError"},
    {In::kLog, "must match the existing size", kUser, "ProgramError"},
    {In::kLog, "Expected all tensors to be on the same device", kUser, "ProgramError"},
    {In::kLog, "expected scalar type", kUser, "ProgramError"},
    {In::kLog, "does not require grad", kUser, "ProgramError"},
    {In::kLog, "modified by an inplace operation", kUser, "ProgramError"},
    {In::kLog, "backward through the graph a second time", kUser, "ProgramError"},
    {In::kLog, "finished reduction in the prior iteration", kUser, "ProgramError"},

    // Shells, Python's command line and argparse, Hugging Face, S3, HTTP.
    {In::kLog, "error: unrecognized arguments", kUser, "ProgramError"},
    {In::kLog, "error: the following arguments are required", kUser, "ProgramError"},
    {In::kLog, "error: argument ", kUser, "ProgramError"},
    {In::kLog, "can't open file", kUser, "ProgramError"},
    {In::kLog, "exec format error", kUser, "ProgramError"},
    {In::kLog, "exec user process caused", kUser, "ProgramError"},  // older runc
    {In::kLog, "cannot execute binary file", kUser, "ProgramError"},
    {In::kLog, "is not a valid model identifier", kUser, "ProgramError"},
    {In::kException, "GatedRepoError", kUser, "AccessDenied"},
    {In::kException, "RepositoryNotFoundError", kUser, "AccessDenied"},
    {In::kException, "NoCredentialsError", kUser, "AccessDenied"},
    {In::kLog, "(AccessDenied)", kUser, "AccessDenied"},
    {In::kLog, "(InvalidAccessKeyId)", kUser, "AccessDenied"},
    {In::kLog, "(NoSuchBucket)", kUser, "AccessDenied"},
    {In::kLog, "(NoSuchKey)", kUser, "AccessDenied"},
    {In::kLog, "401 Client Error", kUser, "AccessDenied"},
    {In::kLog, "403 Client Error", kUser, "AccessDenied"},
    {In::kLog, "404 Client Error", kUser, "AccessDenied"},

    // strerror() of storage: NFS, block devices, FUSE, Lustre.
    {In::kLog, "Stale file handle", kInfrastructure, "StorageFailed"},
    {In::kLog, "Input/output error", kInfrastructure, "StorageFailed"},
    {In::kLog, "Remote I/O error", kInfrastructure, "StorageFailed"},
    {In::kLog, "Transport endpoint is not connected", kInfrastructure, "StorageFailed"},
    {In::kLog, "Cannot send after transport endpoint shutdown", kInfrastructure, "StorageFailed"},
    {In::kLog, "No space left on device", kInfrastructure, "StorageFailed"},
    {In::kLog, "failed writing file", kInfrastructure, "StorageFailed"},  // PyTorch's writer of archives
    {In::kLog, "Disk quota exceeded", kUser, "StorageRefused"},
    {In::kLog, "Read-only file system", kUser, "StorageRefused"},

    // NCCL's NET/IB transport, and what strerror() says of a network.
    {In::kLog, "NET/IB : Got completion from peer", kInfrastructure, "NetworkFailed"},
    {In::kLog, "Got async event", kInfrastructure, "NetworkFailed"},
    {In::kLog, "Call to ibv_", kInfrastructure, "NetworkFailed"},
    {In::kLog, "No route to host", kInfrastructure, "NetworkFailed"},
    {In::kLog, "Network is unreachable", kInfrastructure, "NetworkFailed"},
    {In::kLog, "Host is down", kInfrastructure, "NetworkFailed"},

    // Services outside the job, which answer again soon: DNS, HTTP, S3 (botocore, urllib3, requests).
    {In::kLog, "Temporary failure in name resolution", kTransient, "ServiceUnavailable"},
    {In::kLog, "429 Client Error", kTransient, "ServiceUnavailable"},
    {In::kLog, "500 Server Error", kTransient, "ServiceUnavailable"},
    {In::kLog, "502 Server Error", kTransient, "ServiceUnavailable"},
    {In::kLog, "503 Server Error", kTransient, "ServiceUnavailable"},
    {In::kLog, "504 Server Error", kTransient, "ServiceUnavailable"},
    {In::kLog, "(SlowDown)", kTransient, "ServiceUnavailable"},
    {In::kLog, "(ServiceUnavailable)", kTransient, "ServiceUnavailable"},
    {In::kLog, "(RequestTimeout)", kTransient, "ServiceUnavailable"},
    {In::kLog, "Read timed out", kTransient, "ServiceUnavailable"},
    {In::kException, "TimeoutError", kTransient, "ServiceUnavailable"},
    {In::kException, "ReadTimeout", kTransient, "ServiceUnavailable"},
    {In::kException, "ReadTimeoutError", kTransient, "ServiceUnavailable"},
    {In::kException, "ConnectTimeout", kTransient, "ServiceUnavailable"},
    {In::kException, "ConnectTimeoutError", kTransient, "ServiceUnavailable"},
    {In::kException, "ConnectionError", kTransient, "ServiceUnavailable"},
    {In::kException, "MaxRetryError", kTransient, "ServiceUnavailable"},
    {In::kException, "EndpointConnectionError", kTransient, "ServiceUnavailable"},
    {In::kException, "SSLEOFError", kTransient, "ServiceUnavailable"},
    {In::kLog, "RemoteDisconnected", kTransient, "ServiceUnavailable"},
    {In::kLog, "Max retries exceeded with url", kTransient, "ServiceUnavailable"},
    {In::kLog, "ddress already in use", kTransient, "AddressInUse"},
    {In::kLog, "Too many open files", kTransient, "TooManyFiles"},

    // Python's exceptions that tell of the program, its arguments, its paths or its data; the type alone, whatever it says.
    {In::kException, "FileNotFoundError", kUser, "ProgramError"},
    {In::kException, "NotADirectoryError", kUser, "ProgramError"},
    {In::kException, "IsADirectoryError", kUser, "ProgramError"},
    {In::kException, "PermissionError", kUser, "ProgramError"},
    {In::kException, "ModuleNotFoundError", kUser, "ProgramError"},
    {In::kException, "ImportError", kUser, "ProgramError"},
    {In::kException, "SyntaxError", kUser, "ProgramError"},
    {In::kException, "IndentationError", kUser, "ProgramError"},
    {In::kException, "NameError", kUser, "ProgramError"},
    {In::kException, "UnboundLocalError", kUser, "ProgramError"},
    {In::kException, "AttributeError", kUser, "ProgramError"},
    {In::kException, "TypeError", kUser, "ProgramError"},
    {In::kException, "ValueError", kUser, "ProgramError"},
    {In::kException, "KeyError", kUser, "ProgramError"},
    {In::kException, "IndexError", kUser, "ProgramError"},
    {In::kException, "AssertionError", kUser, "ProgramError"},
    {In::kException, "NotImplementedError", kUser, "ProgramError"},
    {In::kException, "ZeroDivisionError", kUser, "ProgramError"},
    {In::kException, "FloatingPointError", kUser, "ProgramError"},
    {In::kException, "OverflowError", kUser, "ProgramError"},
    {In::kException, "RecursionError", kUser, "ProgramError"},
    {In::kException, "UnicodeDecodeError", kUser, "ProgramError"},
    {In::kException, "JSONDecodeError", kUser, "ProgramError"},
    {In::kException, "UnpicklingError", kUser, "ProgramError"},
    {In::kException, "SafetensorError", kUser, "ProgramError"},
    {In::kException, "ConfigAttributeError", kUser, "ProgramError"},  // omegaconf, and the next two of Hydra
    {In::kException, "ConfigCompositionException", kUser, "ProgramError"},
    {In::kException, "OverrideParseException", kUser, "ProgramError"},

    // Gloo (transport/tcp/pair.cc), NCCL (ncclRemoteError), c10d's TCPStore, the kernel: a peer or the way to it is gone.
    {In::kPeer, "Connection closed by peer", kInfrastructure, "ConnectionLost"},
    {In::kPeer, "Connection reset by peer", kInfrastructure, "ConnectionLost"},
    {In::kPeer, "Broken pipe", kInfrastructure, "ConnectionLost"},
    {In::kPeer, "ncclRemoteError", kInfrastructure, "ConnectionLost"},
    {In::kPeer, "remote process exited", kInfrastructure, "ConnectionLost"},
    {In::kPeer, "Socket closed", kInfrastructure, "ConnectionLost"},
    {In::kPeer, "recvValue failed", kInfrastructure, "ConnectionLost"},
    {In::kPeer, "sendBytes failed", kInfrastructure, "ConnectionLost"},
    // The same, where a peer is slow or has not come yet, or collectives do not match: it may be anybody's fault.
    {In::kPeer, "collective operation timeout", kTransient, "CollectiveTimeout"},
    {In::kPeer, "NCCL communicator was aborted", kTransient, "CollectiveTimeout"},
    {In::kPeer, "Timed out waiting", kTransient, "CollectiveTimeout"},
    {In::kPeer, "SocketTimeout", kTransient, "CollectiveTimeout"},
    {In::kPeer, "Socket Timeout", kTransient, "CollectiveTimeout"},
    {In::kPeer, "while trying to connect to", kTransient, "PeersNotMet"},
    {In::kPeer, "failed to connect to any network address", kTransient, "PeersNotMet"},
    {In::kPeer, "Connection refused", kTransient, "PeersNotMet"},
    {In::kPeer, "waiting for clients", kTransient, "PeersNotMet"},
    {In::kPeer, "Name or service not known", kTransient, "PeersNotMet"},
    {In::kPeer, "RendezvousTimeoutError", kTransient, "PeersNotMet"},
    {In::kPeer, "RendezvousConnectionError", kTransient, "PeersNotMet"},
    // NCCL gives no better reason.
    {In::kLog, "ncclSystemError", kInfrastructure, "NetworkFailed"},
    {In::kLog, "unhandled system error", kInfrastructure, "NetworkFailed"},

    {In::kLog, "has timed out after", kTransient, "ServiceUnavailable"},
});

// Exit codes of a shell (POSIX, 2.8.2): found and not executable, not found, and 128 + SIGTERM, which somebody sent.
constexpr std::int32_t kNotExecutable = 126, kNotFound = 127, kTerminated = 143;

/// Reasons that say no more than that it ended: a rule's reason takes their place.
bool is_bare(const std::string& reason) {
  return reason == "WorkerExited" || reason == "RankCrashed" || reason == "EngineError" || reason == "PeerLost";
}

/// Not so where the trouble is not this node's, or not known to be.
bool is_nodes(const std::string& reason) {
  static constexpr std::array<std::string_view, 7> kNot{"WorkerDeleted", "OtherControllerKey", "GraceExceeded", "NodeDrained",
                                                        "NodeGone",      "ConnectionLost",     "PeerLost"};
  return std::find(kNot.begin(), kNot.end(), reason) == kNot.end();
}

std::vector<std::string_view> lines_of(const Failure& failure) {
  std::vector<std::string_view> lines;
  std::string_view left = failure.message;
  while (!left.empty()) {
    const auto end = left.find('\n');
    lines.push_back(left.substr(0, end));
    left = end == std::string_view::npos ? "" : left.substr(end + 1);
  }
  lines.insert(lines.end(), failure.lastLines.begin(), failure.lastLines.end());
  return lines;
}

/// The last name of "[rank3]: json.decoder.JSONDecodeError: Expecting …", as Python writes the end of a traceback; empty: it is no such
/// line.
std::string_view exception_of(std::string_view line) {
  const auto is_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  if (line.starts_with('[')) {  // torchrun's and PyTorch's prefixes
    const auto end = line.find("]:");
    line = end == std::string_view::npos ? "" : line.substr(end + 2);
  }
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto end = std::find_if(line.begin(), line.end(), [&](char c) { return !is_name(c) && c != '.'; });
  if (end != line.end() && *end != ':') return {};
  const auto name = line.substr(0, static_cast<std::size_t>(end - line.begin()));
  return name.substr(name.rfind('.') + 1);  // npos + 1 is 0
}

bool holds(const Rule& rule, std::string_view line, const Circumstances& around) {
  const bool has_words = line.find(rule.words) != std::string_view::npos;
  const bool was_not_started = around.container_reason == "StartError" || around.container_reason == "ContainerCannotRun";
  switch (rule.in) {
    case In::kLog: return has_words && !was_not_started;
    case In::kGpuLog: return has_words && around.has_gpus;
    case In::kPeer: return has_words && !around.peers_are_told;
    case In::kRuntime: return has_words && was_not_started;
    case In::kEviction: return has_words && !around.pod_reason.empty();
    case In::kException: return has_words && exception_of(line) == rule.words;
  }
  return false;
}

/// What a program that a signal ended had written before may have been survived, or be another process's. NCCL's watchdog and
/// std::terminate end by SIGABRT after they told why.
bool may_tell(In in, const Failure& failure) {
  if (!failure.signal) return true;
  return in != In::kException && (in != In::kPeer || failure.signal == "SIGABRT");
}

std::optional<Verdict> by_words(const Failure& failure, const Circumstances& around) {
  const auto lines = lines_of(failure);
  for (const auto& rule : kRules) {
    if (!may_tell(rule.in, failure)) continue;
    for (const auto line : lines) {
      if (!holds(rule, line, around)) continue;
      return Verdict{.failure_class = rule.failure_class,
                     .reason = rule.reason == nullptr ? "" : rule.reason,
                     .line = std::string(line),
                     .is_secondary = rule.in == In::kPeer};
    }
  }
  return std::nullopt;
}

/// What words do not tell.
Verdict by_circumstances(const Failure& failure, const Circumstances& around) {
  if (!around.pod_reason.empty()) return {.failure_class = kInfrastructure};  // the kubelet or the node controller ended it
  if (failure.reason == "OutOfMemory") {
    // The kernel killed for the want of the container's memory where that has a limit, else of the node's.
    return around.memory_limited ? Verdict{.failure_class = kUser}
                                 : Verdict{.failure_class = kInfrastructure, .reason = "NodeOutOfMemory"};
  }
  switch (failure.exitCode.value_or(0)) {
    case kNotExecutable:
    case kNotFound: return {.failure_class = kUser, .reason = "ProgramError"};
    case kTerminated: return {.failure_class = kTransient, .reason = "Terminated"};
    default: return {};
  }
}

}  // namespace

Verdict classify(const Failure& failure, const Circumstances& around) {
  const bool lost_a_peer = failure.reason == "PeerLost";
  Verdict verdict{.failure_class = failure.failureClass};
  if (failure.failureClass == kUnknown || lost_a_peer) {
    Circumstances here = around;
    if (lost_a_peer) here.peers_are_told = false;  // its own words are just of that
    // Words of an eviction are the kubelet's, and what the kernel did is told by the container's reason.
    auto found = by_words(failure, here);
    if (!found && !lost_a_peer) found = by_circumstances(failure, around);
    if (found) verdict = std::move(*found);
    const bool may_be_nodes = verdict.failure_class == kUnknown || verdict.failure_class == kTransient;
    if (may_be_nodes && !around.node_trouble.empty()) {
      verdict = {.failure_class = kInfrastructure,
                 .reason = "NodeUnhealthy",
                 .line = "its node has the condition " + around.node_trouble};
    }
  }
  if (!is_bare(failure.reason) && verdict.reason != "NodeOutOfMemory") verdict.reason.clear();
  const std::string& reason = verdict.reason.empty() ? failure.reason : verdict.reason;
  verdict.blames_node = verdict.failure_class == kInfrastructure && is_nodes(reason);
  return verdict;
}

}  // namespace trainyard::decide
