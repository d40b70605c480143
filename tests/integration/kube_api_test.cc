// RestKubeApi, Watcher and LeaseElector against a real etcd and kube-apiserver.

#include <atomic>
#include <memory>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "controller/kube/kubeconfig.h"
#include "controller/kube/lease_elector.h"
#include "controller/kube/listing.h"
#include "controller/kube/rest_kube_api.h"
#include "controller/kube/watch_lines.h"
#include "controller/kube/watcher.h"
#include "tests/support/api_server.h"
#include "tests/support/inbox.h"

namespace trainyard::kube {
namespace {

using namespace std::chrono_literals;
using testing::Inbox;

constexpr const char* kApplyPatch = "application/apply-patch+yaml";
constexpr const char* kMergePatch = "application/merge-patch+json";

/// One server for all tests; each works in a namespace of its own.
class KubeApiOnAServer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<testing::ApiServer>(); }
  static void TearDownTestSuite() { server_.reset(); }

  KubeApiOnAServer() : credentials_(read_kubeconfig({.files = {server_->kubeconfig()}})), api_(credentials_) {
    static int count = 0;
    name_space_ = "space-" + std::to_string(++count);
    EXPECT_EQ(post("/api/v1/namespaces", {{"metadata", {{"name", name_space_}}}}).status, 201);
  }

  Response get(const std::string& path) { return api_.perform({.path = path}); }
  Response post(const std::string& path, const Json& body) {
    return api_.perform({.method = Method::kPost, .path = path, .body = body});
  }
  Response put(const std::string& path, const Json& body) {
    return api_.perform({.method = Method::kPut, .path = path, .body = body});
  }
  Response remove(const std::string& path) { return api_.perform({.method = Method::kDelete, .path = path}); }
  Response patch(const std::string& path, const Json& body, const char* content_type,
                 std::map<std::string, std::string> query = {}) {
    return api_.perform(
        {.method = Method::kPatch, .path = path, .query = std::move(query), .body = body, .content_type = content_type});
  }
  std::string config_maps() const { return "/api/v1/namespaces/" + name_space_ + "/configmaps"; }
  std::string pods() const { return "/api/v1/namespaces/" + name_space_ + "/pods"; }
  static Json config_map(const std::string& name, const std::string& value = "1") {
    return {{"metadata", {{"name", name}, {"labels", {{"test", "yes"}}}}}, {"data", {{"key", value}}}};
  }
  static Json pod(const std::string& name) {
    return {{"metadata", {{"name", name}}},
            {"spec", {{"containers", {{{"name", "worker"}, {"image", "nothing.test/image:1"}}}}}}};
  }

  static std::unique_ptr<testing::ApiServer> server_;
  Credentials credentials_;
  RestKubeApi api_;
  std::string name_space_;
};
std::unique_ptr<testing::ApiServer> KubeApiOnAServer::server_;

TEST_F(KubeApiOnAServer, CreatesReadsReplacesAndDeletes) {
  Json object = post(config_maps(), config_map("a")).body;
  EXPECT_EQ(object.at("data").at("key"), "1");
  object["data"]["key"] = "2";
  EXPECT_EQ(put(config_maps() + "/a", object).status, 200);
  EXPECT_EQ(get(config_maps() + "/a").body.at("data").at("key"), "2");
  EXPECT_TRUE(remove(config_maps() + "/a").ok());
  const Response gone = get(config_maps() + "/a");
  EXPECT_TRUE(gone.is_not_found());
  EXPECT_EQ(gone.message, "configmaps \"a\" not found");
}

TEST_F(KubeApiOnAServer, TellsAConflictFromASecondCreation) {
  const Json object = post(config_maps(), config_map("a")).body;
  EXPECT_TRUE(put(config_maps() + "/a", object).ok()) << "nothing changed";
  Json first = object, second = object;
  first["data"]["key"] = "first";
  second["data"]["key"] = "second";
  EXPECT_TRUE(put(config_maps() + "/a", first).ok());
  const Response conflict = put(config_maps() + "/a", second);
  EXPECT_TRUE(conflict.is_conflict()) << conflict.message;
  const Response twice = post(config_maps(), config_map("a"));
  EXPECT_TRUE(twice.is_already_exists()) << twice.message;
}

TEST_F(KubeApiOnAServer, AppliesOnlyWhatItSays) {
  post(config_maps(), config_map("a"));
  const Json ours = {{"apiVersion", "v1"}, {"kind", "ConfigMap"}, {"data", {{"ours", "x"}}}};
  const Response applied = patch(config_maps() + "/a", ours, kApplyPatch, {{"fieldManager", "trainyard"}, {"force", "true"}});
  EXPECT_EQ(applied.status, 200) << applied.message;
  EXPECT_EQ(applied.body.at("data"), Json({{"key", "1"}, {"ours", "x"}}));
}

TEST_F(KubeApiOnAServer, WritesTheStatusAloneThroughItsSubresource) {
  ASSERT_EQ(post(pods(), pod("a")).status, 201);
  const Json both = {{"status", {{"message", "seen"}}}, {"metadata", {{"labels", {{"a", "b"}}}}}};
  EXPECT_EQ(patch(pods() + "/a/status", both, kMergePatch).status, 200);
  const Json object = get(pods() + "/a").body;
  EXPECT_EQ(object.at("status").at("message"), "seen");
  Json through_main = object;
  through_main["status"]["message"] = "overwritten";
  put(pods() + "/a", through_main);
  EXPECT_EQ(get(pods() + "/a").body.at("status").at("message"), "seen");
}

TEST_F(KubeApiOnAServer, ADryRunChecksStrictlyAndLeavesNothing) {
  const std::map<std::string, std::string> dry = {{"dryRun", "All"}, {"fieldValidation", "Strict"}};
  const Response good = api_.perform({.method = Method::kPost, .path = pods(), .query = dry, .body = pod("a")});
  EXPECT_EQ(good.status, 201) << good.message;
  EXPECT_TRUE(get(pods() + "/a").is_not_found());
  Json mistyped = pod("a");
  mistyped["spec"]["restartPolicyy"] = "Never";
  const Response bad = api_.perform({.method = Method::kPost, .path = pods(), .query = dry, .body = mistyped});
  EXPECT_EQ(bad.status, 400);
  EXPECT_NE(bad.message.find("unknown field \"spec.restartPolicyy\""), std::string::npos) << bad.message;
}

TEST_F(KubeApiOnAServer, AForbiddenRequestSaysSo) {
  Credentials nobody = credentials_;
  nobody.client_certificate_pem.clear();
  nobody.client_key_pem.clear();
  EXPECT_EQ(RestKubeApi(nobody).perform({.path = config_maps()}).status, 403) << "anonymous";
  nobody.token = "nonsense";
  EXPECT_EQ(RestKubeApi(nobody).perform({.path = config_maps()}).status, 401);
}

TEST_F(KubeApiOnAServer, OnlyTheRightAuthorityIsBelieved) {
  Credentials wrong = credentials_;
  wrong.authority_pem = wrong.client_certificate_pem;  // a certificate, but no authority of this server
  const Response refused = RestKubeApi(wrong, {.retries = 0}).perform({.path = "/version"});
  EXPECT_EQ(refused.status, 0);
  EXPECT_NE(refused.message.find("check certificate-authority"), std::string::npos) << refused.message;
  wrong.authority_pem.clear();  // the system's authorities
  EXPECT_EQ(RestKubeApi(wrong, {.retries = 0}).perform({.path = "/version"}).status, 0);
  wrong.skip_tls_verification = true;
  EXPECT_EQ(RestKubeApi(wrong).perform({.path = "/version"}).status, 200);
}

TEST_F(KubeApiOnAServer, TheServersNameIsChecked) {
  Credentials renamed = credentials_;
  renamed.tls_server_name = "localhost";
  EXPECT_EQ(RestKubeApi(renamed).perform({.path = "/version"}).status, 200);
  renamed.tls_server_name = "elsewhere.test";
  EXPECT_EQ(RestKubeApi(renamed, {.retries = 0}).perform({.path = "/version"}).status, 0);
}

TEST_F(KubeApiOnAServer, SixteenHandsCreate1200AndPagesListEachOnce) {
  std::atomic<int> next = 0, created = 0;
  {
    std::vector<std::jthread> hands;
    for (int hand = 0; hand < 16; ++hand) {
      hands.emplace_back([&] {
        for (int i = next++; i < 1200; i = next++) created += post(config_maps(), config_map("c" + std::to_string(i))).ok();
      });
    }
  }
  ASSERT_EQ(created, 1200);
  const ListResult result = list_all(api_, {.path = config_maps(), .label_selector = "test=yes"}, 500);
  ASSERT_TRUE(result.ok()) << result.failure.message;
  std::set<std::string> names;
  for (const auto& item : result.listing.items) names.insert(item.at("metadata").at("name").get<std::string>());
  EXPECT_EQ(result.listing.items.size(), 1200u);
  EXPECT_EQ(names.size(), 1200u);
  EXPECT_EQ(result.listing.items.front().at("kind"), "ConfigMap");
}

class Heard {
 public:
  WatchSink sink() {
    return [this](WatchBatch batch) { batches_.put(std::move(batch)); };
  }
  WatchBatch relisted() {
    while (true) {
      auto batch = batches_.take();
      if (!batch) throw std::runtime_error("no list came");
      if (batch->relisted) return std::move(*batch);
    }
  }
  /// "ADDED a" and so on, the next `count` of them.
  std::vector<std::string> events(std::size_t count) {
    std::vector<std::string> out;
    while (out.size() < count) {
      const auto batch = batches_.take();
      if (!batch) return out;
      for (const auto& event : batch->events) {
        const char* type = event.type == EventType::kAdded     ? "ADDED "
                           : event.type == EventType::kDeleted ? "DELETED "
                                                               : "MODIFIED ";
        out.push_back(type + event.object->at("metadata").at("name").get<std::string>());
      }
    }
    return out;
  }

 private:
  Inbox<WatchBatch> batches_;
};

TEST_F(KubeApiOnAServer, AWatchSeesEveryChangeInOrder) {
  post(config_maps(), config_map("before"));
  Heard heard;
  Watcher watcher(credentials_, {{.path = config_maps(), .label_selector = "test=yes"}}, heard.sink());
  EXPECT_EQ(heard.relisted().events.size(), 1u);
  EXPECT_TRUE(watcher.synced());

  std::vector<std::string> expected;
  for (const std::string name : {"a", "b", "c"}) {
    post(config_maps(), config_map(name));
    patch(config_maps() + "/" + name, {{"data", {{"key", "2"}}}}, kMergePatch);
    remove(config_maps() + "/" + name);
    expected.insert(expected.end(), {"ADDED " + name, "MODIFIED " + name, "DELETED " + name});
  }
  EXPECT_EQ(heard.events(9), expected);
}

TEST_F(KubeApiOnAServer, NothingIsLostWhereOneWatchEndsAndTheNextBegins) {
  Heard heard;
  Watcher watcher(credentials_, {{.path = config_maps(), .label_selector = "test=yes"}}, heard.sink(), {.length = 1s});
  heard.relisted();
  std::vector<std::string> expected;
  const auto end = std::chrono::steady_clock::now() + 3s;  // three watches long
  for (int i = 0; std::chrono::steady_clock::now() < end; ++i) {
    ASSERT_TRUE(post(config_maps(), config_map("c" + std::to_string(i))).ok());
    expected.push_back("ADDED c" + std::to_string(i));
  }
  EXPECT_EQ(heard.events(expected.size()), expected);
}

TEST_F(KubeApiOnAServer, AServerThatStoodStillIsHeardAgain) {
  Heard heard;
  Inbox<std::string> troubles;
  WatchOptions options{.length = 1s, .slack = 500ms};
  options.trouble = [&](std::size_t, const std::string& what) { troubles.put(what); };
  Watcher watcher(credentials_, {{.path = config_maps(), .label_selector = "test=yes"}}, heard.sink(), options);
  heard.relisted();
  server_->freeze();
  EXPECT_NE(troubles.take().value_or(""), "");
  server_->thaw();
  heard.relisted();
  ASSERT_TRUE(post(config_maps(), config_map("after")).ok());
  EXPECT_EQ(heard.events(1), std::vector<std::string>{"ADDED after"});
}

LeaseOptions candidate(const std::string& name_space, const std::string& identity) {
  return {.name_space = name_space, .identity = identity, .duration = 2s, .renew_deadline = 1'500ms, .retry_period = 100ms};
}

TEST_F(KubeApiOnAServer, ALeaderThatStepsDownIsFollowedAtOnce) {
  Inbox<std::string> leaders;
  LeaseElector a(api_, candidate(name_space_, "a"), {.started_leading = [&] { leaders.put("a"); }});
  ASSERT_EQ(leaders.take(), "a");
  LeaseElector b(api_, candidate(name_space_, "b"), {.started_leading = [&] { leaders.put("b"); }});
  const auto released_at = std::chrono::steady_clock::now();
  a.stop();
  ASSERT_EQ(leaders.take(), "b");
  EXPECT_LT(std::chrono::steady_clock::now() - released_at, 1'500ms) << "the lease did not have to run out";
}

TEST_F(KubeApiOnAServer, ALeaderThatDiesIsFollowedWhenItsLeaseHasRunOut) {
  RestKubeApi dying(credentials_);
  Inbox<std::string> leaders;
  std::atomic<bool> a_leads = false, overlapped = false;
  LeaseElector a(dying, candidate(name_space_, "a"),
                 {.started_leading =
                      [&] {
                        a_leads = true;
                        leaders.put("a");
                      },
                  .stopped_leading = [&](const std::string&) { a_leads = false; }});
  ASSERT_EQ(leaders.take(), "a");
  LeaseElector b(api_, candidate(name_space_, "b"), {.started_leading = [&] {
                   overlapped = a_leads.load();
                   leaders.put("b");
                 }});
  const auto died_at = std::chrono::steady_clock::now();
  dying.stop();  // it can neither renew nor release
  ASSERT_EQ(leaders.take(), "b");
  EXPECT_GE(std::chrono::steady_clock::now() - died_at, 1'500ms);
  EXPECT_FALSE(overlapped) << "the first stopped before the second began";
  a.stop();
}

TEST(KubeApiWithoutHistory, AWatchFromAVersionThatIsGoneIsUnderstoodAsExpired) {
  const testing::ApiServer server({"--watch-cache=false", "--etcd-compaction-interval=1s"});
  Connection connection(read_kubeconfig({.files = {server.kubeconfig()}}), 10s);
  bool expired = false;
  for (const auto end = std::chrono::steady_clock::now() + testing::kPatience;
       !expired && std::chrono::steady_clock::now() < end;) {
    const auto stream = connection.open(
        {.path = "/api/v1/configmaps", .query = {{"watch", "1"}, {"resourceVersion", "1"}, {"timeoutSeconds", "1"}}});
    expired = stream->head().status == 410;
    WatchLines lines;
    for (auto bytes = stream->read(); !expired && !bytes.empty(); bytes = stream->read()) expired = lines.feed(bytes).expired;
  }
  EXPECT_TRUE(expired);
}

}  // namespace
}  // namespace trainyard::kube
