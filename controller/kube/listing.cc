#include "controller/kube/listing.h"

#include <utility>

#include "controller/kube/json_text.h"

namespace trainyard::kube {
namespace {

Identity identity_of(const Json& object) {
  const auto metadata = object.find("metadata");
  if (metadata == object.end() || !metadata->is_object()) return {};
  return {text_at(*metadata, "namespace"), text_at(*metadata, "name"), text_at(*metadata, "uid")};
}

/// Hands on what was read so far.
void hand_on(Listing& listing, const TakePage& take) {
  for (const auto& item : listing.items) listing.earlier.push_back(identity_of(item));
  take({.items = std::exchange(listing.items, {}), .resource_version = listing.resource_version, .earlier = {}});
}

/// Moves a page's items over. False when the answer is no list.
bool take_page(Json page, const WatchTarget& target, Listing& listing, std::string& continue_token) {
  const auto metadata = page.find("metadata"), items = page.find("items");
  if (metadata == page.end() || !metadata->is_object() || items == page.end()) return false;
  listing.resource_version = text_at(*metadata, "resourceVersion");
  continue_token = text_at(*metadata, "continue");
  std::string kind = text_at(page, "kind");
  if (kind.ends_with("List")) kind.resize(kind.size() - 4);
  const std::string api_version = text_at(page, "apiVersion");
  if (items->is_null()) return true;  // Go's spelling of an empty list
  for (auto& item : *items) {
    if (!item.is_object()) continue;
    if (!item.contains("kind")) item["kind"] = kind;
    if (!item.contains("apiVersion")) item["apiVersion"] = api_version;
    if (target.shrink) target.shrink(item);
    listing.items.push_back(std::move(item));
  }
  return true;
}

}  // namespace

ListResult list_all(KubeApi& api, const WatchTarget& target, std::size_t page_limit, const TakePage& take) {
  Request request{.path = target.path};
  if (!target.label_selector.empty()) request.query["labelSelector"] = target.label_selector;
  request.query["limit"] = std::to_string(page_limit);
  ListResult result;
  while (true) {
    Response page = api.perform(request);
    if (page.status == 410 && request.query.contains("continue")) {
      request.query.erase("continue");
      request.query.erase("limit");
      result.listing = {};
      continue;
    }
    if (!page.ok()) {
      result.failure = std::move(page);
      return result;
    }
    std::string continue_token;
    if (!take_page(std::move(page.body), target, result.listing, continue_token)) {
      result.failure.message = "GET " + target.path + ": the answer is no Kubernetes list: is this the API server?";
      return result;
    }
    result.failure.status = page.status;
    if (continue_token.empty()) return result;
    if (take) hand_on(result.listing, take);
    request.query["continue"] = continue_token;
  }
}

WatchBatch to_batch(std::size_t target, Listing listing, bool has_more) {
  WatchBatch batch{.target = target,
                   .relisted = true,
                   .has_more = has_more,
                   .events = {},
                   .resource_version = std::move(listing.resource_version)};
  batch.earlier = std::move(listing.earlier);
  batch.events.reserve(listing.items.size());
  for (auto& item : listing.items) batch.events.push_back({EventType::kAdded, std::move(item)});
  return batch;
}

}  // namespace trainyard::kube
