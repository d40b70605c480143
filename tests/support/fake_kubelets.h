#pragma once
// The rest of a cluster in virtual time: nodes with their kubelets (admission, start, graceful end, loss and return), kube-scheduler
// for pods that are bound to no node, and the node controller.

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "controller/decide/resources.h"
#include "tests/support/fake_kube_api.h"
#include "tests/support/fake_programs.h"
#include "tests/support/fake_workers.h"

namespace trainyard::test {

/// Of a PersistentVolumeClaim that kube-scheduler binds with the first pod that mounts it (volumeBindingMode WaitForFirstConsumer).
inline constexpr const char* kWaitsForConsumer = "waits-for-consumer";

class FakeKubelets {
 public:
  /// `workers` are the insides of pods with an agent, `programs` those of others.
  FakeKubelets(VirtualTime& time, FakeKubeApi& api, FakeWorkers& workers, FakePrograms& programs);

  /// `allocatable` as in a Node: {"cpu": "16", "nvidia.com/gpu": "8"}; "pods" is added.
  void add_node(const std::string& name, Json allocatable, const Json& labels = Json::object());

  /// The power goes: nothing there runs any more, and nobody is told. The node controller sees it 10 to 40 s later.
  void kill(const std::string& node);
  /// The network goes: what runs there goes on, for itself.
  void cut_off(const std::string& node);
  /// A PersistentVolumeClaim of namespace default, Pending until bind_claim(), or until the first consumer where its class waits for it.
  void add_claim(const std::string& name, const std::string& storage_class = "");
  void bind_claim(const ObjectKey& key);

  /// Back again: after kill() pods have failed, after cut_off() they are as they are.
  void bring_back(const std::string& node);
  bool is_up(const std::string& node) const { return !dead_.contains(node) && !cut_off_.contains(node); }

  /// Why the pod's container can't be started (an image that can't be pulled), for as long as it says so.
  std::function<std::optional<std::string>(const Json& pod)> cannot_start;
  /// So many of the next pods are rejected at admission, as when another scheduler was faster.
  int reject_next = 0;
  milliseconds start_low{200}, start_high{2'000};

 private:
  struct Known {
    ObjectKey key;
    std::string node;
    decide::Resources requests;
    bool starting = false;
    bool terminating = false;
  };
  void changed(const FakeKubeApi::Change& change);
  void sync_soon(const ObjectKey& key, milliseconds delay);
  void sync(const ObjectKey& key);
  void bind(const ObjectKey& key, const Json& pod);
  void admit(const ObjectKey& key, const Json& pod);
  void start(const ObjectKey& key, const std::string& uid);
  void end(const ObjectKey& key, const Json& pod);
  void container_exited(const std::string& uid, int code, const std::string& message);
  bool is_running(const std::string& uid) const { return workers_.is_running(uid) || programs_.is_running(uid); }
  void kill_container(const std::string& uid);
  bool fits(const std::string& node, const decide::Resources& requests) const;
  std::string chosen_node(const Json& pod) const;
  void evict_from(const std::string& node);
  void node_ready_after(const std::string& node, bool ready, milliseconds delay);
  bool bind_claims(const Json& pod);
  bool can_mount(const Json& pod) const;

  VirtualTime& time_;
  FakeKubeApi& api_;
  FakeWorkers& workers_;
  FakePrograms& programs_;
  std::map<std::string, Known> known_;  // pods that were admitted, by UID
  std::set<std::string> dead_, cut_off_;
  int next_address_ = 0;
};

}  // namespace trainyard::test
