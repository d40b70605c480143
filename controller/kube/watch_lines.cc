#include "controller/kube/watch_lines.h"

#include <algorithm>

#include "controller/kube/managed_fields.h"

namespace trainyard::kube {
namespace {

constexpr std::size_t kQuotedBytes = 200;

std::string text_at(const Json& line, const Json::json_pointer& at) {
  return line.contains(at) && line[at].is_string() ? line[at].get<std::string>() : "";
}

void read_error(const Json& status, WatchNews& news) {
  using namespace nlohmann::literals;
  const std::string reason = text_at(status, "/reason"_json_pointer);
  const bool is_410 = status.value("/code"_json_pointer, Json()) == 410;
  news.expired = is_410 || reason == "Expired" || reason == "Gone";
  const std::string message = text_at(status, "/message"_json_pointer);
  news.error = "the server ended the watch: " + (message.empty() ? reason : message);
}

/// False: nothing after this line counts.
bool read_line(std::string_view text, WatchNews& news) {
  using namespace nlohmann::literals;
  Json line = Json::parse(without_managed_fields(text), nullptr, /*allow_exceptions=*/false);
  const std::string type = line.is_object() ? text_at(line, "/type"_json_pointer) : "";
  const auto object = line.is_object() ? line.find("object") : line.end();
  if (type.empty() || object == line.end() || !object->is_object()) {
    news.error = "this is no line of a watch: " + std::string(text.substr(0, kQuotedBytes));
    return false;
  }
  if (type == "ERROR") {
    read_error(*object, news);
    return false;
  }
  const std::string version = text_at(line, "/object/metadata/resourceVersion"_json_pointer);
  if (!version.empty()) news.resource_version = version;
  if (type == "BOOKMARK") return true;
  const EventType event = type == "ADDED" ? EventType::kAdded : type == "DELETED" ? EventType::kDeleted : EventType::kModified;
  news.events.push_back({event, std::move(*object)});
  return true;
}

}  // namespace

WatchNews WatchLines::feed(std::string_view bytes) {
  rest_ += bytes;
  WatchNews news;
  std::size_t start = 0;
  for (std::size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', start)) {
    const std::string_view line = std::string_view(rest_).substr(start, end - start);
    start = end + 1;
    if (line.find_first_not_of(" \r") != std::string_view::npos && !read_line(line, news)) break;
  }
  rest_.erase(0, start);
  return news;
}

}  // namespace trainyard::kube
