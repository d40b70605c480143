#pragma once
// Names, labels, ports and paths that the controller writes into worker pods and the agent finds there.

#include <cstdint>
#include <string>
#include <string_view>

namespace trainyard::contract {

inline constexpr std::string_view kJobLabel = "trainyard.dev/job-name";
inline constexpr std::string_view kWorkerLabel = "trainyard.dev/worker-index";
inline constexpr std::string_view kSpareLabel = "trainyard.dev/spare";  // instead, of a pod that was made as a spare: its number
inline constexpr std::string_view kGenerationLabel = "trainyard.dev/generation";  // the gang's, when the pod was made
inline constexpr std::string_view kTemplateHashAnnotation = "trainyard.dev/template-hash";
inline constexpr std::string_view kManagedByLabel = "app.kubernetes.io/managed-by";
inline constexpr std::string_view kManagedByValue = "trainyard";
inline constexpr std::string_view kFieldManager = "trainyard-controller";

inline constexpr std::string_view kContainerName = "worker";  // the container of the template that trains
inline constexpr std::string_view kPortName = "trainyard";    // the agent's container port
inline constexpr std::uint16_t kAgentPort = 8471;             // HTTP: /v1/state, /v1/assignment, /metrics, /healthz
inline constexpr std::uint16_t kRendezvousPort = 29500;       // rank 0's TCPStore, at its pod's IP; torchrun's default
inline constexpr std::string_view kKeyVolume = "trainyard-key";
inline constexpr std::string_view kKeyPath = "/var/run/secrets/trainyard.dev/key";  // the job key, 64 hexadecimal digits

// The worker container's environment.
inline constexpr const char* kPodIpVariable = "TRAINYARD_POD_IP";
inline constexpr const char* kPodUidVariable = "TRAINYARD_POD_UID";
inline constexpr const char* kPodNameVariable = "TRAINYARD_POD_NAME";
inline constexpr const char* kNodeNameVariable = "TRAINYARD_NODE_NAME";

inline constexpr std::size_t kMaxJobNameLength = 49;

/// `<job>-<index>-<generation at creation>`: creating a worker twice is a 409, and one stuck in Terminating blocks nobody.
inline std::string pod_name(std::string_view job, std::int32_t index, std::int64_t generation) {
  return std::string(job) + "-" + std::to_string(index) + "-" + std::to_string(generation);
}
/// `<job>-s<number>-<generation>`, of a spare; no number is given twice under one generation.
inline std::string spare_name(std::string_view job, std::int32_t number, std::int64_t generation) {
  return std::string(job) + "-s" + std::to_string(number) + "-" + std::to_string(generation);
}
/// The Secret with the job's key. The first digits of the UID are in it, since that of a deleted job of the same name, with another key,
/// may still be there; and what names the controller key, so that pods that are made under another one get a Secret of their own.
inline std::string key_secret_name(std::string_view job, std::string_view job_uid, std::string_view key_id) {
  return std::string(job) + "-key-" + std::string(job_uid.substr(0, 8)) + "-" + std::string(key_id);
}

/// The headless Service of a job with the engine Custom; at most 61 characters.
inline std::string workers_service_name(std::string_view job, std::string_view job_uid) {
  return "tj-" + std::string(job) + "-" + std::string(job_uid.substr(0, 8));
}

}  // namespace trainyard::contract
