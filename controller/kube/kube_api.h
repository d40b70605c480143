#pragma once
// The API server as the rest of the controller sees it: blocking requests, and batches of what a watch saw. Paths, objects and
// errors are Kubernetes' own, so that a fake behaves as the server does and not as some caller expects.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace trainyard::kube {

using Json = nlohmann::json;

enum class Method { kGet, kPost, kPut, kPatch, kDelete };

/// One request. `path` is whole: /api/v1/namespaces/default/pods/x. A PATCH carries its content type:
/// application/apply-patch+yaml (server-side apply, JSON is YAML), application/merge-patch+json.
struct Request {
  Method method = Method::kGet;
  std::string path;
  std::map<std::string, std::string> query;  // fieldManager, force, dryRun, fieldValidation, limit, continue, …
  Json body;                                 // null: none
  std::string content_type = "application/json";
  std::chrono::milliseconds timeout{30'000};
  bool patient = true;  // false: a 429 or a refused connection is the caller's at once, who can wait without a thread
};

/// The answer. A transport failure has status 0 and its cause in `message`. For an error, `reason` and `message` are those of the
/// server's metav1.Status, and `retry_after` its header.
struct Response {
  int status = 0;
  Json body;
  std::string reason;
  std::string message;
  std::optional<std::chrono::seconds> retry_after;
  bool not_sent = false;  // of status 0: no connection came about, so that nothing can have happened on the server

  bool ok() const { return status >= 200 && status < 300; }
  bool is_not_found() const { return status == 404; }
  bool is_already_exists() const { return status == 409 && reason == "AlreadyExists"; }
  bool is_conflict() const { return status == 409 && reason != "AlreadyExists"; }
  /// Worth trying again unchanged: no answer, 429, or 5xx.
  bool is_temporary() const { return status == 0 || status == 429 || status >= 500; }
};

/// Blocking; called from hands, several at a time. Retries nothing but what is safe and short (429 and a refused connection, a few
/// times); everything else is the caller's decision.
class KubeApi {
 public:
  virtual ~KubeApi() = default;
  virtual Response perform(const Request& request) = 0;
};

/// What is listed and watched: `path` is that of the collection over all namespaces (/apis/trainyard.dev/v1alpha1/trainingjobs).
struct WatchTarget {
  std::string path;
  std::string label_selector;
  /// Takes out of a listed object what its receiver has no use for, so that a whole collection can be held at once. Any thread.
  std::function<void(Json&)> shrink;
  /// Its list is handed on page by page, so that it is never in memory as a whole, which takes many times what its receiver keeps of it.
  bool by_page = false;
};

/// Which object it is.
struct Identity {
  std::string ns, name, uid;
};

enum class EventType { kAdded, kModified, kDeleted };
/// Its object is not changed any more: whoever keeps events shares it.
struct WatchEvent {
  WatchEvent(EventType what, std::shared_ptr<const Json> it) : type(what), object(std::move(it)) {}
  WatchEvent(EventType what, Json it) : WatchEvent(what, std::make_shared<const Json>(std::move(it))) {}
  EventType type;
  std::shared_ptr<const Json> object;
};

/// What one list or one read of a watch's stream brought. `relisted`: the events (all kAdded) are the whole collection: what the
/// receiver holds and does not find there is gone. After a start, a 410, or when the server was away, the first batch is relisted; a
/// stream that ended or broke otherwise goes on where it was. No events and not relisted: a bookmark, all before its version was told.
/// A list that is handed on by page comes as several: what is not in any of them is gone once the last is there, which names what the
/// others held. A list that could not be read to its end begins anew, and its pages until then were of one that has no last.
struct WatchBatch {
  std::size_t target = 0;  // index of the WatchTarget
  bool relisted = false;
  bool has_more = false;            // relisted: the collection goes on in the next batch of this target
  bool server_was_away = false;     // relisted, since nothing was heard of the server for a while
  std::vector<Identity> earlier{};  // relisted: what is in the list's pages before this one, of the last of them
  std::vector<WatchEvent> events;
  std::string resource_version;
};
using WatchSink = std::function<void(WatchBatch)>;

}  // namespace trainyard::kube
