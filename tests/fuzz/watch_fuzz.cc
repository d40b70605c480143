// The body of a watch, cut anywhere by the network: the same events come of it as of the whole, and after a complaint nothing.

#include "controller/kube/watch_lines.h"
#include "tests/fuzz/target.h"

using namespace trainyard::kube;
using trainyard::fuzz::expect;

std::vector<std::string> trainyard::fuzz::seeds() {
  const std::string added =
      R"({"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a-0-1","namespace":"default","uid":"u","resourceVersion":"7"}}})";
  const std::string modified =
      R"({"type":"MODIFIED","object":{"metadata":{"name":"a","resourceVersion":"8"},"status":{"phase":"Running"}}})";
  const std::string deleted = R"({"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"9"}}})";
  const std::string bookmark = R"({"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"10"}}})";
  const std::string expired =
      R"j({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version: 7 (9)"}})j";
  const std::string line = "\n";
  return {added + line + modified + line + deleted + line, bookmark + "\r\n\n" + added + line + modified,
          added + line + expired + line + added + line};
}

namespace {

void append(WatchNews& all, WatchNews next) {
  for (auto& event : next.events) all.events.push_back(std::move(event));
  if (!next.resource_version.empty()) all.resource_version = next.resource_version;
  all.expired = next.expired;
  all.error = next.error;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto text = trainyard::fuzz::text_of(bytes, size);
  const WatchNews whole = WatchLines().feed(text);
  for (const std::size_t step : {1, 7, 64}) {
    WatchLines lines;
    WatchNews all;
    for (std::size_t at = 0; at < size && all.error.empty(); at += step) append(all, lines.feed(text.substr(at, step)));
    expect(all.error == whole.error && all.expired == whole.expired, "a cut made another complaint");
    expect(all.resource_version == whole.resource_version, "a cut made another version");
    expect(all.events.size() == whole.events.size(), "a cut made other events");
    for (std::size_t i = 0; i < all.events.size(); ++i) {
      expect(all.events[i].type == whole.events[i].type && *all.events[i].object == *whole.events[i].object,
             "a cut made another event");
      expect(all.events[i].object->is_object(), "an event is about nothing");
    }
  }
  expect(!whole.expired || !whole.error.empty(), "a history has expired, and nobody says so");
  return 0;
}
