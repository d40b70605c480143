#include "controller/cache/sources.h"

#include <array>
#include <utility>

#include "controller/cache/decode.h"

namespace trainyard::cache {
namespace {

/// A kind's place in the API, and whether its objects lie in namespaces.
struct Kind {
  Watched watched;
  const char* group;
  const char* resource;
  bool is_namespaced;
  void (*shrink)(Json&);
  bool by_page = false;
};
constexpr std::array<Kind, kNumWatched> kKinds{{
    {Watched::kJobs, "/apis/trainyard.dev/v1alpha1", "trainingjobs", true, drop_managed_fields, /*by_page=*/true},
    {Watched::kPods, "/api/v1", "pods", true, shrink_pod},
    {Watched::kNodes, "/api/v1", "nodes", false, shrink_node},
    {Watched::kClaims, "/api/v1", "persistentvolumeclaims", true, drop_managed_fields},
    {Watched::kVolumes, "/api/v1", "persistentvolumes", false, shrink_volume},
    {Watched::kPriorityClasses, "/apis/scheduling.k8s.io/v1", "priorityclasses", false, drop_managed_fields},
    {Watched::kQueues, "/apis/trainyard.dev/v1alpha1", "trainingqueues", false, drop_managed_fields},
    {Watched::kNamespaces, "/api/v1", "namespaces", false, shrink_namespace},
}};

/// Where objects of the kind are read; {""}: everywhere; none: nowhere.
std::vector<std::string> places_of(const Kind& kind, const decide::Settings& settings) {
  if (!kind.is_namespaced && !settings.sees_cluster) return {};
  const bool of_the_cluster = kind.watched == Watched::kPods && settings.sees_cluster;  // everybody's pods take up room
  if (!kind.is_namespaced || settings.namespaces.empty() || of_the_cluster) return {""};
  return settings.namespaces;
}

}  // namespace

std::vector<Source> sources(const decide::Settings& settings) {
  std::vector<Source> out;
  for (const auto& kind : kKinds) {
    for (const auto& ns : places_of(kind, settings)) {
      const std::string place = ns.empty() ? "/" : "/namespaces/" + ns + "/";
      out.push_back({.kind = kind.watched,
                     .ns = ns,
                     .target = {.path = kind.group + place + kind.resource,
                                .label_selector = {},
                                .shrink = kind.shrink,
                                .by_page = kind.by_page}});
    }
  }
  return out;
}

std::vector<kube::WatchTarget> watch_targets(const decide::Settings& settings) {
  std::vector<kube::WatchTarget> out;
  for (auto& source : sources(settings)) out.push_back(std::move(source.target));
  return out;
}

}  // namespace trainyard::cache
