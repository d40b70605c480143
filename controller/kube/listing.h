#pragma once
// A whole collection, read page by page.

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "controller/kube/kube_api.h"

namespace trainyard::kube {

/// What a page holds in memory grows with it: as JSON text, and parsed, some 20 KB an object. Larger ones are read hardly faster.
inline constexpr std::size_t kPageLimit = 100;

struct Listing {
  std::vector<Json> items;  // with apiVersion and kind, which the server leaves out of lists
  std::string resource_version;
  std::vector<Identity> earlier;  // what was handed on before
};
using TakePage = std::function<void(Listing)>;

/// Reads `target` in pages of `page_limit`, and shrinks each page's objects before it reads the next. The first page asks for no
/// resourceVersion, so that the server answers from its store and not from a cache that may lag behind: what this program wrote before is in
/// it. All pages are of that one's resourceVersion. When their token expires on the way (410), starts again without pages. `failure` is the
/// answer that ended it, when it is not ok(). Where there is a `take`, it is given each page but the last, which is the result, with the
/// identities of all that it was given; after a 410 these count no more.
struct ListResult {
  Listing listing;
  Response failure;
  bool ok() const { return failure.ok(); }
};
ListResult list_all(KubeApi& api, const WatchTarget& target, std::size_t page_limit, const TakePage& take = nullptr);

/// As a batch of a list: whole, or `has_more`.
WatchBatch to_batch(std::size_t target, Listing listing, bool has_more);

}  // namespace trainyard::kube
