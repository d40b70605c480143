#include "controller/kube/watcher.h"

#include <atomic>
#include <optional>

#include <gtest/gtest.h>

#include "tests/support/http_server.h"

namespace trainyard::kube {
namespace {

using namespace std::chrono_literals;
using testing::HttpReply;
using testing::HttpSeen;
using testing::HttpServer;
using testing::Inbox;

std::string object(const std::string& name, int version) {
  return R"({"metadata":{"name":")" + name + R"(","resourceVersion":")" + std::to_string(version) + "\"}}";
}
std::string event(const std::string& type, const std::string& name, int version) {
  return R"({"type":")" + type + R"(","object":)" + object(name, version) + "}\n";
}
std::string list(const std::string& items, int version, const std::string& continue_token = "") {
  return R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":")" + std::to_string(version) +
         R"(","continue":")" + continue_token + R"("},"items":[)" + items + "]}";
}
const std::string kGone = R"({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}})"
                          "\n";

bool is_watch(const HttpSeen& seen) { return seen.target.find("watch=1") != std::string::npos; }
bool has(const HttpSeen& seen, const std::string& part) { return seen.target.find(part) != std::string::npos; }

/// A server, one ear on its pods, and what the ear heard.
class Listening {
 public:
  /// `lists` and `watches` answer the first, second, … list and watch (counted from 1).
  using Script = std::function<void(int count, const HttpSeen&, HttpReply&)>;
  Listening(Script lists, Script watches, WatchOptions options = {}, bool by_page = false)
      : lists_(std::move(lists)), watches_(std::move(watches)), server_([this](const HttpSeen& seen, HttpReply& reply) {
          if (is_watch(seen)) {
            watches_(++num_watches_, seen, reply);
          } else {
            lists_(++num_lists_, seen, reply);
          }
        }) {
    options.backoff = {1ms, 5ms};
    options.trouble = [this](std::size_t, const std::string& what) { troubles_.put(what); };
    Credentials credentials;
    credentials.server = server_.url();
    watcher_.emplace(
        credentials,
        std::vector<WatchTarget>{{.path = "/api/v1/pods", .label_selector = "a=b", .shrink = {}, .by_page = by_page}},
        [this](WatchBatch batch) { batches_.put(std::move(batch)); }, options);
  }
  WatchBatch next() {
    auto batch = batches_.take();
    if (!batch) throw std::runtime_error("no batch came");
    return std::move(*batch);
  }
  HttpSeen next_request() {
    auto seen = server_.seen().take();
    if (!seen) throw std::runtime_error("no request came");
    return std::move(*seen);
  }
  std::string next_trouble() { return troubles_.take().value_or("no trouble came"); }
  Watcher& watcher() { return *watcher_; }

 private:
  Script lists_, watches_;
  std::atomic<int> num_lists_ = 0, num_watches_ = 0;
  Inbox<WatchBatch> batches_;
  Inbox<std::string> troubles_;
  HttpServer server_;
  std::optional<Watcher> watcher_;
};

void one_pod(int, const HttpSeen&, HttpReply& reply) { reply.send(200, list(object("a", 3), 7)); }
void silence(int, const HttpSeen&, HttpReply& reply) {
  reply.begin();
  reply.hold();
}

TEST(Watcher, ListsFirstAndWatchesFromThere) {
  Listening pods(one_pod, [](int, const HttpSeen&, HttpReply& reply) {
    reply.begin();
    reply.chunk(event("ADDED", "b", 8) + event("DELETED", "a", 9));
    reply.hold();
  });
  const WatchBatch first = pods.next(), second = pods.next();
  EXPECT_TRUE(first.relisted);
  ASSERT_EQ(first.events.size(), 1u);
  EXPECT_EQ(first.events[0].type, EventType::kAdded);
  EXPECT_EQ(first.events[0].object->at("kind"), "Pod") << "a list's items are given the kind that the server leaves out";
  EXPECT_EQ(first.resource_version, "7");
  EXPECT_FALSE(second.relisted);
  ASSERT_EQ(second.events.size(), 2u) << "what came together stays together";
  EXPECT_EQ(second.events[1].type, EventType::kDeleted);
  EXPECT_EQ(second.resource_version, "9");
  EXPECT_TRUE(pods.watcher().synced());

  const HttpSeen listing = pods.next_request(), watching = pods.next_request();
  EXPECT_FALSE(has(listing, "resourceVersion")) << "the first list is a consistent read";
  EXPECT_TRUE(has(listing, "limit=" + std::to_string(kPageLimit)) && has(listing, "labelSelector=a%3Db")) << listing.target;
  EXPECT_TRUE(has(watching, "resourceVersion=7") && has(watching, "allowWatchBookmarks=true") &&
              has(watching, "timeoutSeconds=") && has(watching, "labelSelector=a%3Db"))
      << watching.target;
}

TEST(Watcher, ReadsAllPagesAsOneBatch) {
  Listening pods(
      [](int, const HttpSeen& seen, HttpReply& reply) {
        reply.send(200, has(seen, "continue=next") ? list(object("b", 4), 7) : list(object("a", 3), 7, "next"));
      },
      silence);
  EXPECT_EQ(pods.next().events.size(), 2u);
}

TEST(Watcher, HandsOnPageByPageWhatIsWantedSo) {
  Listening pods(
      [](int, const HttpSeen& seen, HttpReply& reply) {
        reply.send(200, has(seen, "continue=next") ? list(object("b", 4), 7) : list(object("a", 3), 7, "next"));
      },
      silence, {}, /*by_page=*/true);
  const WatchBatch first = pods.next(), last = pods.next();
  EXPECT_TRUE(first.relisted && first.has_more);
  EXPECT_EQ(first.events.size(), 1u);
  EXPECT_EQ(first.resource_version, "7");
  EXPECT_TRUE(last.relisted && !last.has_more);
  EXPECT_EQ(last.events.size(), 1u);
  ASSERT_EQ(last.earlier.size(), 1u);
  EXPECT_EQ(last.earlier[0].name, "a");
}

TEST(Watcher, ListsInOnePieceWhenThePagesExpire) {
  Listening pods(
      [](int, const HttpSeen& seen, HttpReply& reply) {
        if (has(seen, "continue=next")) return reply.send(410, R"({"kind":"Status","code":410,"reason":"Expired"})");
        reply.send(200, has(seen, "limit=") ? list(object("a", 3), 7, "next") : list(object("a", 3) + "," + object("b", 4), 8));
      },
      silence);
  const WatchBatch batch = pods.next();
  EXPECT_EQ(batch.events.size(), 2u) << "no item twice, none missing";
  EXPECT_EQ(batch.resource_version, "8");
}

TEST(Watcher, GoesOnWhereAWatchEnded) {
  Listening pods(one_pod, [](int count, const HttpSeen&, HttpReply& reply) {
    reply.begin();
    if (count > 1) return reply.hold();
    reply.chunk(event("ADDED", "b", 8) + event("BOOKMARK", "", 20));
    reply.end();
  });
  pods.next();
  pods.next();
  pods.next_request();
  EXPECT_TRUE(has(pods.next_request(), "resourceVersion=7"));
  EXPECT_TRUE(has(pods.next_request(), "resourceVersion=20")) << "a bookmark counts";
}

TEST(Watcher, ABookmarkIsABatchWithoutEvents) {
  Listening pods(one_pod, [](int, const HttpSeen&, HttpReply& reply) {
    reply.begin();
    reply.chunk(event("BOOKMARK", "", 20));
    reply.hold();
  });
  pods.next();
  const WatchBatch bookmark = pods.next();
  EXPECT_TRUE(bookmark.events.empty());
  EXPECT_FALSE(bookmark.relisted);
  EXPECT_EQ(bookmark.resource_version, "20");
}

TEST(Watcher, GoesOnWhereAWatchWasCut) {
  Listening pods(one_pod, [](int count, const HttpSeen&, HttpReply& reply) {
    reply.begin();
    reply.chunk(event("ADDED", "b" + std::to_string(count), 7 + count));
    if (count > 1) return reply.hold();
    reply.cut();
  });
  EXPECT_TRUE(pods.next().relisted);
  EXPECT_EQ(pods.next().events.at(0).object->at("metadata").at("name"), "b1");
  const WatchBatch after = pods.next();
  EXPECT_FALSE(after.relisted);
  EXPECT_EQ(after.events.at(0).object->at("metadata").at("name"), "b2");
}

TEST(Watcher, ListsAgainWhenTheHistoryIsGoneInMidWatch) {
  Listening pods([](int count, const HttpSeen&, HttpReply& reply) { reply.send(200, list(object("a", 3), count * 100)); },
                 [](int count, const HttpSeen&, HttpReply& reply) {
                   reply.begin();
                   if (count > 1) return reply.hold();
                   reply.chunk(event("ADDED", "b", 101) + kGone);
                   reply.end();
                 });
  EXPECT_TRUE(pods.next().relisted);
  EXPECT_EQ(pods.next().events.size(), 1u);
  const WatchBatch again = pods.next();
  EXPECT_TRUE(again.relisted);
  EXPECT_EQ(again.resource_version, "200");
}

TEST(Watcher, ListsAgainWhenAWatchIsRefusedWith410) {
  Listening pods(one_pod, [](int count, const HttpSeen&, HttpReply& reply) {
    if (count == 1) return reply.send(410, R"({"kind":"Status","code":410,"reason":"Expired","message":"too old"})");
    reply.begin();
    reply.hold();
  });
  EXPECT_TRUE(pods.next().relisted);
  EXPECT_TRUE(pods.next().relisted);
}

TEST(Watcher, TellsOfTroubleOnceAndOfItsEnd) {
  Listening pods(
      [](int count, const HttpSeen& seen, HttpReply& reply) {
        if (count < 4) return reply.send(403, R"({"kind":"Status","reason":"Forbidden","message":"pods is forbidden"})");
        one_pod(count, seen, reply);
      },
      silence);
  EXPECT_EQ(pods.next_trouble(), "403 Forbidden: pods is forbidden");
  EXPECT_EQ(pods.next_trouble(), "");
  EXPECT_TRUE(pods.next().relisted);
}

TEST(Watcher, SaysWhatMayBeMissingWhereTheServerDoesNotKnowTheKind) {
  Listening jobs([](int, const HttpSeen&, HttpReply& reply) { reply.send(404, "404 page not found\n"); }, silence);
  EXPECT_EQ(jobs.next_trouble(), "the API server does not know /api/v1/pods: is its CustomResourceDefinition installed?");
}

TEST(Watcher, ListsAgainAfterTheServerWasAway) {
  auto lists = [](const HttpSeen& seen, HttpReply& reply) {
    if (is_watch(seen)) return silence(0, seen, reply);
    one_pod(0, seen, reply);
  };
  std::optional<HttpServer> server(std::in_place, lists);
  Credentials credentials;
  credentials.server = server->url();
  Inbox<WatchBatch> batches;
  Inbox<std::string> troubles;
  WatchOptions options{.backoff = {1ms, 5ms}};
  options.trouble = [&](std::size_t, const std::string& what) { troubles.put(what); };
  Watcher watcher(
      credentials, {{.path = "/api/v1/pods"}}, [&](WatchBatch batch) { batches.put(std::move(batch)); }, options);
  ASSERT_TRUE(batches.take());
  server->seen().take();
  ASSERT_TRUE(is_watch(*server->seen().take()));

  const auto port = server->port();
  server.reset();
  EXPECT_NE(troubles.take().value_or(""), "");
  server.emplace(lists, port);

  const auto again = batches.take();
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->relisted);
}

TEST(Watcher, AStreamThatStandsStillIsGivenUp) {
  Listening pods(one_pod,
                 [](int count, const HttpSeen&, HttpReply& reply) {
                   reply.begin();
                   if (count > 1) reply.chunk(event("ADDED", "b", 8));
                   reply.hold();
                 },
                 {.length = 10ms, .slack = 10ms});
  EXPECT_TRUE(pods.next().relisted);
  EXPECT_EQ(pods.next().events.size(), 1u) << "the second watch was opened without a word from the first";
}

TEST(Watcher, StopEndsASilentWatchAndASilentListAtOnce) {
  Listening watching(one_pod, silence);
  watching.next();
  watching.next_request();
  watching.next_request();
  watching.watcher().stop();

  Listening listing([](int, const HttpSeen&, HttpReply& reply) { reply.hold(); }, silence);
  listing.next_request();
  listing.watcher().stop();
  EXPECT_FALSE(listing.watcher().synced());
}

}  // namespace
}  // namespace trainyard::kube
