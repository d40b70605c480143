#include "controller/decide/claims.h"

#include "controller/decide/conditions.h"

namespace trainyard::decide {
namespace {

/// "PersistentVolumeClaim default/corpus", "PersistentVolumeClaims default/corpus and default/checkpoints".
std::string named(const std::vector<std::string>& names, const std::string& ns) {
  std::string out = names.size() == 1 ? "PersistentVolumeClaim " : "PersistentVolumeClaims ";
  for (std::size_t i = 0; i < names.size(); ++i) {
    out += (i == 0 ? "" : i + 1 < names.size() ? ", " : " and ") + ns + "/" + names[i];
  }
  return out;
}

ClaimTrouble missing(const std::vector<std::string>& names, const std::string& ns) {
  const bool one = names.size() == 1;
  return {reason::kClaimMissing, named(names, ns) + ", which spec.workers.template mounts, " + (one ? "does" : "do") +
                                     " not exist; create " + (one ? "it" : "them") + " in namespace " + ns +
                                     ", or correct the claimName"};
}

ClaimTrouble unbound(const std::vector<std::string>& names, const std::string& ns, const Claim& first) {
  const bool one = names.size() == 1;
  return {
      reason::kClaimUnbound,
      named(names, ns) + ", which spec.workers.template mounts, " + (one ? "is" : "are") + " not bound to a volume (" +
          (first.phase.empty() ? "Pending" : first.phase) +
          "), and placement.binding Direct starts pods on bound claims alone. Where the storage class binds a claim once a "
          "pod uses it (volumeBindingMode: WaitForFirstConsumer), apply the job anew with placement.binding: Scheduler, or have "
          "another pod use the claim first; else `kubectl -n " +
          ns + " describe pvc " + first.key.name + "` says what it waits for"};
}

}  // namespace

std::vector<Json> volume_terms(const Cluster& cluster, const Job& job, const PodNeeds& needs) {
  std::vector<Json> out;
  for (const auto& name : needs.claims) {
    const Claim* claim = cluster.claim({job.key.ns, name});
    const Volume* volume = claim == nullptr ? nullptr : cluster.volume(claim->volume);
    if (volume != nullptr && !volume->required_terms.empty()) out.push_back(volume->required_terms);
  }
  return out;
}

std::optional<ClaimTrouble> claim_trouble(const Cluster& cluster, const Job& job, const PodNeeds& needs) {
  const std::string& ns = job.key.ns;
  std::vector<std::string> gone, pending;
  const Claim *dying = nullptr, *waits = nullptr, *lost = nullptr;
  for (const auto& name : needs.claims) {
    const Claim* claim = cluster.claim({ns, name});
    if (claim == nullptr) {
      gone.push_back(name);
    } else if (claim->deleting) {
      dying = claim;
    } else if (claim->volume.empty()) {
      pending.push_back(name);
      if (waits == nullptr) waits = claim;
    } else if (cluster.settings.sees_cluster && cluster.volume(claim->volume) == nullptr) {
      lost = claim;
    }
  }
  if (!gone.empty()) return missing(gone, ns);
  if (dying != nullptr) {
    return ClaimTrouble{reason::kClaimMissing,
                        "PersistentVolumeClaim " + to_text(dying->key) +
                            " is being deleted, and no pod can mount it any more; create it anew once it is gone"};
  }
  if (lost != nullptr) {
    return ClaimTrouble{reason::kClaimMissing, "PersistentVolumeClaim " + to_text(lost->key) + " is bound to PersistentVolume " +
                                                   lost->volume + ", which does not exist; create the claim anew"};
  }
  if (waits != nullptr && job.spec.placement.binding == contract::Binding::kDirect) return unbound(pending, ns, *waits);
  return std::nullopt;
}

}  // namespace trainyard::decide
