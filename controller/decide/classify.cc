#include "controller/decide/classify.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
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
  kLog,        // in any line; of the class User: in one that its process neither survived nor followed by another exception
  kGpuLog,     // in any line, where the job asks for GPUs
  kException,  // they are the type of a Python exception that a line begins with; of the class User: as above
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
    {In::kLog, "'out of memory'", kUser, "OutOfMemory"},
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

    // strerror() of storage: NFS, block devices, FUSE, Lustre.
    {In::kLog, "Stale file handle", kInfrastructure, "StorageFailed"},
    {In::kLog, "Input/output error", kInfrastructure, "StorageFailed"},
    {In::kLog, "Remote I/O error", kInfrastructure, "StorageFailed"},
    {In::kLog, "Transport endpoint is not connected", kInfrastructure, "StorageFailed"},
    {In::kLog, "Cannot send after transport endpoint shutdown", kInfrastructure, "StorageFailed"},
    {In::kLog, "No space left on device", kInfrastructure, "StorageFailed"},
    {In::kLog, "failed writing file", kInfrastructure, "StorageFailed"},  // PyTorch's writer of archives
    {In::kLog, "Disk quota exceeded", kUser, "StorageRefused"},
    // As its user mounted it, or as the kernel leaves a file system after an error of the disk.
    {In::kLog, "Read-only file system", kUnknown, "StorageRefused"},

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

/// A line of a log, as Python and PyTorch write it.
struct Line {
  std::string_view all;
  std::string_view process;    // "[rank3]:", the prefix of PyTorch or torchrun; empty: none is given
  std::string_view text;       // without it
  std::string_view exception;  // the type, where the line ends a traceback
  bool survived = false;       // caught, or the process trained on after it
  bool superseded = false;     // another exception came after it in the same process
};

/// "JSONDecodeError" of "json.decoder.JSONDecodeError: Expecting …", as Python writes the end of a traceback; empty: it is no such line.
std::string_view exception_of(std::string_view line) {
  const auto is_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto end = std::find_if(line.begin(), line.end(), [&](char c) { return !is_name(c) && c != '.'; });
  if (end != line.end() && *end != ':') return {};
  const auto name = line.substr(0, static_cast<std::size_t>(end - line.begin()));
  return name.substr(name.rfind('.') + 1);  // npos + 1 is 0
}

Line parse(std::string_view all) {
  Line line{.all = all, .process = {}, .text = all, .exception = {}};
  while (line.text.starts_with('[')) {
    const auto end = line.text.find("]:");
    if (end == std::string_view::npos || line.text.find(' ') < end) break;
    line.text.remove_prefix(end + 2);
    if (line.text.starts_with(' ')) line.text.remove_prefix(1);
  }
  line.process = all.substr(0, all.size() - line.text.size());
  line.exception = exception_of(line.text);
  return line;
}

/// By custom, not by rule; a log has other words before a colon.
bool is_named_as_exception(std::string_view name) {
  static constexpr std::array<std::string_view, 4> kEndings{"Error", "Exception", "Interrupt", "Timeout"};
  return std::any_of(kEndings.begin(), kEndings.end(), [name](auto ending) { return name.ends_with(ending); });
}

/// An exception that a program may end by, and not one by which its launcher says that it ended.
bool is_programs_end(std::string_view exception) {
  static constexpr std::array<std::string_view, 3> kNot{"Error", "ChildFailedError", "CalledProcessError"};
  return is_named_as_exception(exception) && std::find(kNot.begin(), kNot.end(), exception) == kNot.end();
}

bool is_traceback(const Line& line) { return line.text.starts_with("Traceback (most recent call last)"); }
bool is_cause_of_next(const Line& line) { return line.text.starts_with("The above exception was the direct cause"); }
bool joins_exceptions(const Line& line) {
  return is_cause_of_next(line) || line.text.starts_with("During handling of the above exception") ||
         line.text.starts_with("Original Traceback");  // of a DataLoader's worker
}

/// Behind the traceback that begins after `at`, and all those that it is joined with.
std::size_t end_of_traceback(const std::vector<Line>& lines, std::size_t at) {
  while (++at < lines.size()) {
    const Line& line = lines[at];
    if (line.text.empty() || line.text.starts_with(' ') || line.text.starts_with('>'))
      continue;  // loguru points with > at a frame
    if (is_traceback(line) || joins_exceptions(line)) continue;
    if (line.exception.empty()) return at;  // another line came between
    std::size_t next = at + 1;
    while (next < lines.size() && lines[next].text.empty()) ++next;
    if (next == lines.size() || !joins_exceptions(lines[next])) return at + 1;
  }
  return lines.size();
}

/// What Python prints of exceptions that end no program: in __del__(), at exit, in a thread.
bool begins_ignored(const Line& line) {
  return line.text.starts_with("Exception ignored ") || line.text.starts_with("Exception in thread ") ||
         line.text.starts_with("Error in atexit.");
}

std::vector<Line> without_ignored(const std::vector<Line>& lines) {
  std::vector<Line> kept;
  for (std::size_t i = 0; i < lines.size();) {
    if (begins_ignored(lines[i])) {
      i = end_of_traceback(lines, i);
    } else {
      kept.push_back(lines[i++]);
    }
  }
  return kept;
}

/// "step 2210 loss 2.914": who prints that still trains, unless it is what wandb sums up at the end, or a command line that a launcher
/// repeats.
bool tells_progress(const Line& line) {
  const bool has_number = line.text.find_first_of("0123456789") != std::string_view::npos;
  const bool is_other =
      line.text.starts_with(' ') || line.text.starts_with("wandb:") || line.text.find("--") != std::string_view::npos;
  if (!has_number || is_other || is_named_as_exception(line.exception)) return false;
  std::string text(line.text);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  static constexpr std::array<const char*, 4> kWords{"step", "epoch", "iteration", "loss"};
  return std::any_of(kWords.begin(), kWords.end(), [&text](const char* word) { return text.find(word) != std::string::npos; });
}

/// The tracebacks that logging.exception() wrote, and all that a process wrote before it told of progress.
void note_survived(std::vector<Line>& lines) {
  for (std::size_t i = 0; i + 1 < lines.size(); ++i) {
    const bool is_record = lines[i].text.find("ERROR") != std::string_view::npos;
    if (!is_record || !is_traceback(lines[i + 1])) continue;
    const std::size_t end = end_of_traceback(lines, i);
    for (std::size_t j = i + 1; j < end; ++j) lines[j].survived = true;
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!tells_progress(lines[i])) continue;
    for (std::size_t j = 0; j < i; ++j) lines[j].survived = lines[j].survived || lines[j].process == lines[i].process;
  }
}

/// All that a process wrote before the exception that ended it; what was raised "from" another exception ended no more than that one did.
void note_superseded(std::vector<Line>& lines) {
  bool has_cause = false;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (joins_exceptions(lines[i])) has_cause = is_cause_of_next(lines[i]);
    if (lines[i].survived || !is_programs_end(lines[i].exception)) continue;
    for (std::size_t j = 0; j < i && !has_cause; ++j)
      lines[j].superseded = lines[j].superseded || lines[j].process == lines[i].process;
    has_cause = false;
  }
}

std::vector<Line> lines_of(const Failure& failure) {
  std::vector<Line> all;
  for (const auto& line : failure.lastLines) all.push_back(parse(line));
  std::vector<Line> lines = without_ignored(all);
  note_survived(lines);
  note_superseded(lines);
  for (std::string_view left = failure.message; !left.empty();) {
    const auto end = left.find('\n');
    lines.push_back(parse(left.substr(0, end)));
    left = end == std::string_view::npos ? "" : left.substr(end + 1);
  }
  return lines;
}

bool holds(const Rule& rule, const Line& line, const Circumstances& around) {
  const bool has_words = line.all.find(rule.words) != std::string_view::npos;
  const bool was_not_started = around.container_reason == "StartError" || around.container_reason == "ContainerCannotRun";
  switch (rule.in) {
    case In::kLog: return has_words && !was_not_started;
    case In::kGpuLog: return has_words && around.has_gpus;
    case In::kPeer: return has_words && !around.peers_are_told;
    case In::kRuntime: return has_words && was_not_started;
    case In::kEviction: return has_words && !around.pod_reason.empty();
    case In::kException: return has_words && line.exception == rule.words;
  }
  return false;
}

/// What a program that a signal ended had written before may have been survived, or be another process's. NCCL's watchdog and
/// std::terminate end by SIGABRT after they told why.
bool may_tell(const Rule& rule, const Failure& failure) {
  if (!failure.signal) return true;
  const bool needs_reason = rule.in == In::kPeer || rule.failure_class == kUser;
  return rule.in != In::kException && (!needs_reason || failure.signal == "SIGABRT");
}

bool is_of_program(const Rule& rule) { return rule.failure_class == kUser && (rule.in == In::kLog || rule.in == In::kException); }

/// Of a process that told both of an error of its program and of a peer that is gone, nobody knows which came of the other. (That a peer was
/// not there yet is mostly a warning of the start.)
bool is_ambiguous(const Rule& found, const Line& at, const std::vector<Line>& lines, const Circumstances& around) {
  if (found.in != In::kPeer && !is_of_program(found)) return false;
  return std::any_of(kRules.begin(), kRules.end(), [&](const Rule& other) {
    const bool tells_loss = other.in == In::kPeer && std::string_view(other.reason) != "PeersNotMet";
    const bool contradicts = found.in == In::kPeer ? is_of_program(other) : tells_loss;
    return contradicts && std::any_of(lines.begin(), lines.end(), [&](const Line& line) {
             return !line.survived && line.process == at.process && holds(other, line, around);
           });
  });
}

std::optional<Verdict> by_words(const Failure& failure, const Circumstances& around) {
  const auto lines = lines_of(failure);
  for (const auto& rule : kRules) {
    if (!may_tell(rule, failure)) continue;
    for (const auto& line : lines) {
      const bool is_past = is_of_program(rule) && (line.survived || line.superseded);
      if (is_past || !holds(rule, line, around)) continue;
      if (is_ambiguous(rule, line, lines, around)) return Verdict{.line = std::string(line.all)};
      return Verdict{.failure_class = rule.failure_class,
                     .reason = rule.reason == nullptr ? "" : rule.reason,
                     .line = std::string(line.all),
                     .is_secondary = rule.in == In::kPeer};
    }
  }
  return std::nullopt;
}

/// What words do not tell.
Verdict by_circumstances(const Failure& failure, const Circumstances& around) {
  if (!around.pod_reason.empty()) return {.failure_class = kInfrastructure};  // the kubelet or the node controller ended it
  // The kernel killed for the want of the container's memory where that has a limit and its node has enough, else of the node's. There it
  // kills the largest process, which is a rank more often than the first one of the container, by whose end the kubelet tells.
  const bool is_out_of_memory = failure.reason == "OutOfMemory";
  const bool was_killed = is_out_of_memory || failure.signal == "SIGKILL";
  if ((is_out_of_memory && !around.memory_limited) || (was_killed && around.memory_pressure)) {
    return {.failure_class = kInfrastructure, .reason = kNodeOutOfMemory};
  }
  if (is_out_of_memory) return {.failure_class = kUser};
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
  if (!is_bare(failure.reason) && verdict.reason != kNodeOutOfMemory) verdict.reason.clear();
  const std::string& reason = verdict.reason.empty() ? failure.reason : verdict.reason;
  verdict.blames_node = verdict.failure_class == kInfrastructure && is_nodes(reason);
  return verdict;
}

}  // namespace trainyard::decide
