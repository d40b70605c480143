#include "controller/kube/listing.h"

#include <deque>

#include <gtest/gtest.h>

namespace trainyard::kube {
namespace {

struct Pages : KubeApi {
  std::deque<Json> pages;
  std::vector<Request> asked;
  Response perform(const Request& request) override {
    asked.push_back(request);
    Response response{.status = 200, .body = pages.front()};
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

}  // namespace
}  // namespace trainyard::kube
