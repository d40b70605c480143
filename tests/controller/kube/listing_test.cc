#include "controller/kube/listing.h"

#include <deque>
#include <map>

#include <gtest/gtest.h>

namespace trainyard::kube {
namespace {

struct Pages : KubeApi {
  std::deque<Json> pages;
  std::vector<Request> asked;
  std::map<std::size_t, int> status_of;  // by request; else 200
  Response perform(const Request& request) override {
    const auto status = status_of.find(asked.size());
    asked.push_back(request);
    Response response{.status = status == status_of.end() ? 200 : status->second, .body = pages.front()};
    pages.pop_front();
    return response;
  }
};

Json page(const char* name, const char* next) {
  return {{"kind", "PodList"},
          {"apiVersion", "v1"},
          {"metadata", {{"resourceVersion", "7"}, {"continue", next}}},
          {"items", {{{"metadata", {{"name", name}}}, {"spec", {{"big", 1}}}}}}};
}

TEST(AList, IsShrunkPageByPageAsItIsRead) {
  Pages api;
  api.pages = {page("a", "more"), page("b", "")};
  std::vector<std::size_t> pages_when_shrunk;
  const auto shrink = [&](Json& object) {
    pages_when_shrunk.push_back(api.asked.size());
    object.erase("spec");
  };
  const ListResult result = list_all(api, {.path = "/api/v1/pods", .label_selector = {}, .shrink = shrink}, 1);
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result.listing.items.size(), 2u);
  EXPECT_EQ(result.listing.items[1], (Json{{"kind", "Pod"}, {"apiVersion", "v1"}, {"metadata", {{"name", "b"}}}}));
  EXPECT_EQ(pages_when_shrunk, (std::vector<std::size_t>{1, 2}));
  EXPECT_EQ(api.asked[1].query.at("continue"), "more");
}

/// What was handed on, and the rest.
struct HandedOn {
  Pages api;
  std::vector<Listing> pages;
  std::vector<std::size_t> asked_before;  // requests, when each was handed on
  ListResult read() {
    return list_all(api, {.path = "/api/v1/pods", .label_selector = {}, .shrink = {}}, 1, [this](Listing page) {
      pages.push_back(std::move(page));
      asked_before.push_back(api.asked.size());
    });
  }
};

TEST(AList, IsHandedOnPageByPageButForTheLastWhichNamesTheOthers) {
  HandedOn list;
  list.api.pages = {page("a", "more"), page("b", "yet more"), page("c", "")};
  list.api.pages[1]["items"][0]["metadata"]["uid"] = "uid-b";
  list.api.pages[1]["items"][0]["metadata"]["namespace"] = "ns";
  const ListResult result = list.read();
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(list.pages.size(), 2u);
  EXPECT_EQ(list.asked_before, (std::vector<std::size_t>{1, 2})) << "before the next is read";
  ASSERT_EQ(list.pages[1].items.size(), 1u);
  EXPECT_EQ(list.pages[1].items[0]["metadata"]["name"], "b");
  EXPECT_EQ(list.pages[1].resource_version, "7");
  ASSERT_EQ(result.listing.items.size(), 1u);
  EXPECT_EQ(result.listing.items[0]["metadata"]["name"], "c");
  ASSERT_EQ(result.listing.earlier.size(), 2u);
  EXPECT_EQ(result.listing.earlier[0].name, "a");
  EXPECT_EQ(result.listing.earlier[1].ns, "ns");
  EXPECT_EQ(result.listing.earlier[1].uid, "uid-b");
}

TEST(AList, ThatBeginsAnewNamesNothingOfWhatItHandedOnBefore) {
  HandedOn list;
  list.api.pages = {page("a", "more"), {{"kind", "Status"}}, page("b", "")};
  list.api.status_of[1] = 410;
  const ListResult result = list.read();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(list.pages.size(), 1u);
  EXPECT_EQ(result.listing.items.size(), 1u);
  EXPECT_TRUE(result.listing.earlier.empty()) << "the first may be gone since";
}

}  // namespace
}  // namespace trainyard::kube
