#pragma once
// An API server that behaves: resource versions, conflicts, preconditions, generations, dry runs, graceful deletion, garbage
// collection, and watches that lag, break and start anew. In virtual time; faults are switched on.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controller/decide/cluster.h"
#include "controller/kube/kube_api.h"
#include "tests/support/virtual_time.h"

namespace trainyard::test {

using contract::Json;
using decide::ObjectKey;

/// Collections, as the paths over all namespaces.
inline constexpr const char* kJobs = "/apis/trainyard.dev/v1alpha1/trainingjobs";
inline constexpr const char* kPodsPath = "/api/v1/pods";
inline constexpr const char* kNodes = "/api/v1/nodes";
inline constexpr const char* kClaims = "/api/v1/persistentvolumeclaims";
inline constexpr const char* kVolumes = "/api/v1/persistentvolumes";
inline constexpr const char* kPriorityClasses = "/apis/scheduling.k8s.io/v1/priorityclasses";
inline constexpr const char* kQueues = "/apis/trainyard.dev/v1alpha1/trainingqueues";
inline constexpr const char* kNamespaces = "/api/v1/namespaces";
inline constexpr const char* kSecrets = "/api/v1/secrets";
inline constexpr const char* kServices = "/api/v1/services";
inline constexpr const char* kEvents = "/api/v1/events";
inline constexpr const char* kWorkloads = "/apis/scheduling.k8s.io/v1beta1/workloads";
inline constexpr const char* kPodGroups = "/apis/scheduling.k8s.io/v1beta1/podgroups";
inline constexpr const char* kLeases = "/apis/coordination.k8s.io/v1/leases";

/// What happens to a request.
enum class Fault {
  kNone,
  kLost,        // never arrives; no answer
  kRefused,     // never arrives, since no connection comes about: who sent it knows
  kAnswerLost,  // is performed; no answer
  kLate,        // is performed up to half a minute later; no answer
  kConflict,    // 409
  kForbidden,   // 403
  kTooMany,     // 429 with Retry-After: 1
  kBroken       // 500
};

class FakeKubeApi : public kube::KubeApi {
 public:
  explicit FakeKubeApi(VirtualTime& time) : time_(time) {}

  /// A request's path; the collection's own is the one over all namespaces.
  struct Path {
    std::string collection, ns, name, subresource;
  };
  static Path parse(const std::string& path);

  kube::Response perform(const kube::Request& request) override;

  // ---- Faults.
  void fail_next(Fault fault, int times = 1) { next_faults_.insert(next_faults_.end(), times, fault); }
  /// Asked about every request that fail_next() says nothing about.
  std::function<Fault(const kube::Request&)> fault_of;
  /// What admission says to a pod, dry or not; nothing: accepted.
  std::function<std::optional<std::string>(const Json&)> refuse_pod;
  /// What admission adds to a pod, dry or not: a LimitRange's default requests, a RuntimeClass's overhead, tolerations.
  std::function<void(Json&)> admit_pod;
  /// After each write that was performed.
  std::function<void(const kube::Request&)> written;
  /// Workload and PodGroup of scheduling.k8s.io/v1beta1 are served.
  bool has_pod_groups = false;
  /// No request is answered and every watch breaks for so long.
  void outage(milliseconds time);
  bool is_away() const { return time_.uptime() < away_until_; }

  // ---- What users, kubelets and other parts of the cluster do. They get through whatever the faults are.
  const Json* get(const std::string& collection, const ObjectKey& key) const;
  std::vector<std::shared_ptr<const Json>> list(const std::string& collection) const;
  std::size_t size(const std::string& collection) const;
  /// Adds metadata that the server makes. False where the name is taken.
  bool create(const std::string& collection, Json object);
  /// Changes an object as it stands now; a change of `spec` raises metadata.generation. False where there is none.
  bool edit(const std::string& collection, const ObjectKey& key, const std::function<void(Json&)>& change);
  /// With the pod's own grace; without a kubelet's doing, a pod on a node stays, dying.
  bool remove(const std::string& collection, const ObjectKey& key);
  /// At once.
  bool erase(const std::string& collection, const ObjectKey& key);

  // ---- Watches.
  struct Change {
    std::int64_t revision = 0;
    kube::EventType type = kube::EventType::kAdded;
    std::shared_ptr<const Json> object;
  };
  const std::deque<Change>& changes(const std::string& collection) { return collections_[collection].changes; }
  std::int64_t revision() const { return revision_; }
  /// Called after each change in the collection.
  void on_change(const std::string& collection, std::function<void(const Change&)> call);
  int num_requests = 0;

 private:
  struct Collection {
    std::map<ObjectKey, std::shared_ptr<const Json>> objects;
    std::deque<Change> changes;
    std::vector<std::function<void(const Change&)>> listeners;
  };
  kube::Response carry_out(const kube::Request& request);
  kube::Response dispatch(const kube::Request& request);
  kube::Response list_page(const Path& path, const kube::Request& request) const;
  kube::Response post(const Path& path, const kube::Request& request);
  kube::Response put(const Path& path, const kube::Request& request);
  kube::Response destroy(const Path& path, const kube::Request& request);
  void store(const std::string& collection, Json object, kube::EventType type);
  void complete(const std::string& collection, Json& object);
  bool remove_with_grace(const std::string& collection, const ObjectKey& key, std::optional<std::int64_t> grace);
  void collect_dependents(const std::string& uid);
  bool has_uid(const std::string& uid) const;

  VirtualTime& time_;
  std::map<std::string, Collection> collections_;
  std::int64_t revision_ = 1'000;
  std::int64_t names_ = 0;
  std::deque<Fault> next_faults_;
  milliseconds away_until_{0};
};

/// One controller's watches over the fake: each collection's events come after a delay of their own, so that collections overtake
/// each other; and so do the pages of a list that is handed on by page, of two objects each, after which others act.
class FakeWatcher {
 public:
  struct Delay {
    milliseconds low{1}, high{20};
  };
  FakeWatcher(VirtualTime& time, FakeKubeApi& api, std::vector<kube::WatchTarget> targets, kube::WatchSink sink);
  ~FakeWatcher() { stop(); }
  /// No batch comes any more.
  void stop() { alive_ = nullptr; }
  void set_delay(Delay delay) { delay_ = delay; }
  /// The stream breaks, and the collection is listed again when `away` is over.
  void relist(std::size_t target, milliseconds away);

 private:
  struct Ear {
    std::string collection, ns;
    bool by_page = false;
    bool is_handing_on = false;  // pages of a list, one by one
    bool listed = false;
    bool posted = false;
    bool server_was_away = false;
    std::int64_t revision = 0;
    int lists = 0;
  };
  void wake(std::size_t target);
  void deliver(std::size_t target);
  kube::WatchBatch whole(std::size_t target);
  /// What is left of the ear's list of that number, page by page.
  void hand_on(std::size_t target, kube::WatchBatch rest, int list);

  VirtualTime& time_;
  FakeKubeApi& api_;
  kube::WatchSink sink_;
  Delay delay_;
  std::vector<Ear> ears_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trainyard::test
