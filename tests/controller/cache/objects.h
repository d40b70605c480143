#pragma once
// API objects in a line.

#include <string>

#include "controller/kube/kube_api.h"
#include "crds/contract/job.h"
#include "crds/contract/names.h"

namespace trainyard::cache {

using contract::Json;

inline Json job_object(const std::string& name, std::int64_t revision, const std::string& uid = "job-uid") {
  return {{"metadata", {{"name", name}, {"namespace", "default"}, {"uid", uid}, {"resourceVersion", std::to_string(revision)}}},
          {"spec", {{"workers", {{"count", 2}}}}}};
}

inline Json with_phase(Json job, const char* phase) {
  job["status"]["phase"] = phase;
  return job;
}

/// A worker pod of job `a` (UID job-uid).
inline Json pod_object(const std::string& name, std::int64_t revision, const std::string& uid, const std::string& node = "n1") {
  return {{"metadata",
           {{"name", name},
            {"namespace", "default"},
            {"uid", uid},
            {"resourceVersion", std::to_string(revision)},
            {"labels", {{contract::kJobLabel, "a"}, {contract::kWorkerLabel, "0"}, {contract::kGenerationLabel, "1"}}},
            {"ownerReferences",
             {{{"apiVersion", contract::kApiVersion},
               {"kind", contract::kKind},
               {"name", "a"},
               {"uid", "job-uid"},
               {"controller", true}}}}}},
          {"spec",
           {{"nodeName", node},
            {"containers", {{{"name", "worker"}, {"resources", {{"requests", {{"cpu", "500m"}, {"nvidia.com/gpu", "8"}}}}}}}}}},
          {"status", {{"phase", "Pending"}}}};
}

inline Json node_object(const std::string& name, std::int64_t revision, const char* ready = "True",
                        const char* since = "2026-01-01T00:00:00Z") {
  return {{"metadata", {{"name", name}, {"uid", "uid-" + name}, {"resourceVersion", std::to_string(revision)}}},
          {"spec", Json::object()},
          {"status",
           {{"allocatable", {{"cpu", "16"}, {"pods", "110"}}},
            {"conditions", {{{"type", "Ready"}, {"status", ready}, {"lastTransitionTime", since}}}}}}};
}

inline Json claim_object(const std::string& name, std::int64_t revision, const char* phase) {
  Json claim = {{"metadata", {{"name", name}, {"namespace", "default"}, {"uid", "uid-" + name}}}, {"status", {{"phase", phase}}}};
  claim["metadata"]["resourceVersion"] = std::to_string(revision);
  claim["spec"]["volumeName"] = std::string(phase) == "Bound" ? "volume-of-" + name : "";
  return claim;
}

/// A volume that the nodes of one rack can mount.
inline Json queue_object(const std::string& name, std::int64_t revision) {
  const Json gpus = {{"name", "nvidia.com/gpu"}, {"nominal", 8}, {"borrowingLimit", "16"}, {"lendingLimit", 0}};
  return {
      {"metadata", {{"name", name}, {"uid", "uid-" + name}, {"generation", 1}, {"resourceVersion", std::to_string(revision)}}},
      {"spec",
       {{"parent", "org"},
        {"weight", 3},
        {"stop", "Hold"},
        {"namespaceSelector", {{"matchLabels", {{"team", "a"}}}}},
        {"flavors", Json::array({{{"nodeLabels", {{"gpu", "h100"}}},
                                  {"resources", Json::array({gpus, {{"name", "memory"}, {"nominal", "1Gi"}}})}}})}}}};
}

inline Json volume_object(const std::string& name, std::int64_t revision) {
  return {
      {"metadata", {{"name", name}, {"uid", "uid-" + name}, {"resourceVersion", std::to_string(revision)}}},
      {"spec",
       {{"nodeAffinity",
         {{"required",
           {{"nodeSelectorTerms", {{{"matchExpressions", {{{"key", "rack"}, {"operator", "In"}, {"values", {"r1"}}}}}}}}}}}}}}};
}

inline kube::WatchBatch listed(std::size_t target, std::int64_t revision, std::vector<Json> objects) {
  kube::WatchBatch batch{.target = target, .relisted = true, .events = {}, .resource_version = std::to_string(revision)};
  for (auto& object : objects) batch.events.push_back({kube::EventType::kAdded, std::move(object)});
  return batch;
}

inline kube::WatchBatch event(std::size_t target, kube::EventType type, Json object) {
  const std::string revision = object["metadata"]["resourceVersion"];
  return {.target = target, .relisted = false, .events = {{type, std::move(object)}}, .resource_version = revision};
}

}  // namespace trainyard::cache
