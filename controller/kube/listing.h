#pragma once
// A whole collection, read page by page.

#include <cstddef>
#include <string>
#include <vector>

#include "controller/kube/kube_api.h"

namespace trainyard::kube {

struct Listing {
  std::vector<Json> items;  // with apiVersion and kind, which the server leaves out of lists
  std::string resource_version;
};

/// Reads `target` in pages of `page_limit`, and shrinks each page's objects before it reads the next. The first page asks for no resourceVersion, so that the server answers from its store and
/// not from a cache that may lag behind: what this program wrote before is in it. When the pages' token expires on the way (410),
/// starts again without pages. `failure` is the answer that ended it, when it is not ok().
struct ListResult {
  Listing listing;
  Response failure;
  bool ok() const { return failure.ok(); }
};
ListResult list_all(KubeApi& api, const WatchTarget& target, std::size_t page_limit);

}  // namespace trainyard::kube
