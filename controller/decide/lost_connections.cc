#include "controller/decide/lost_connections.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureClass;

constexpr std::chrono::minutes kInARow{30};

/// As classify.cc and the engine name it.
bool is_lost_connection(const Failure& failure) {
  const bool is_named_so = failure.reason == "ConnectionLost" || failure.reason == "PeerLost";
  return is_named_so && failure.failureClass == FailureClass::kInfrastructure;
}

/// What the last failure was, the gang's status alone remembers.
bool is_second_in_a_row(const Review& review, const Failure& cause) {
  const auto& last = review.job.status.failure;
  if (!last || !is_lost_connection(*last) || !is_lost_connection(cause)) return false;
  const auto at = contract::parse_rfc3339(last->at);
  return at && review.now < *at + kInARow;
}

bool is_decimal(char c) { return c >= '0' && c <= '9'; }
bool is_of_name(char c) { return is_decimal(c) || (c >= 'a' && c <= 'z') || c == '-'; }
bool is_of_address(char c) { return is_decimal(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':'; }

/// Whether `words` has `name`, and not as a part of a longer one.
bool names(std::string_view words, std::string_view name, bool (*goes_before)(char), bool (*goes_on)(char)) {
  if (name.empty()) return false;
  for (auto at = words.find(name); at != std::string_view::npos; at = words.find(name, at + 1)) {
    const std::string_view behind = words.substr(at + name.size());
    const bool begins = at == 0 || !goes_before(words[at - 1]);
    if (begins && (behind.empty() || !goes_on(behind.front()))) return true;
  }
  return false;
}

/// An address of IPv4 may stand behind "::ffff:", and at the end of a sentence.
bool names_address(std::string_view words, const std::string& ip) {
  const bool is_v6 = ip.find(':') != std::string::npos;
  if (is_v6) return names(words, ip, is_of_address, is_of_address);
  return names(
      words, ip, [](char c) { return is_decimal(c) || c == '.'; }, is_decimal);
}
bool names_pod(std::string_view words, const std::string& pod) { return names(words, pod, is_of_name, is_of_name); }

/// In the message, or in a last line that tells of a peer, as NCCL's; other lines name all workers.
bool names_worker(const Failure& failure, const Pod& pod) {
  const auto tells = [&pod](const std::string& words) {
    return names_address(words, pod.worker->ip) || names_pod(words, pod.key.name);
  };
  const auto& lines = failure.lastLines;
  return tells(failure.message) || std::any_of(lines.begin(), lines.end(), [&tells](const std::string& line) {
           return line.find("peer") != std::string::npos && tells(line);
         });
}

/// The node of the peer that the failure's words name; empty: they name none on another node.
std::string node_of_peer(const GangView& gang, const Worker& reporter) {
  for (const auto& other : gang.workers) {
    const bool is_elsewhere = other.pod != nullptr && !other.pod->node.empty() && other.pod->node != reporter.pod->node;
    if (!is_elsewhere) continue;
    if (names_worker(*reporter.failure, *other.pod)) return other.pod->node;
  }
  return "";
}

}  // namespace

std::optional<std::string> node_that_loses_connections(const Review& review, const Failure& cause) {
  if (!is_second_in_a_row(review, cause)) return std::nullopt;
  std::map<std::string, std::int32_t> named;  // how often, by node
  std::string by_cause, reporter;
  for (const auto& worker : review.gang.workers) {
    if (worker.pod == nullptr || !worker.failure || !is_lost_connection(*worker.failure)) continue;
    const std::string node = node_of_peer(review.gang, worker);
    if (cause.worker == worker.index) {
      by_cause = node;
      reporter = worker.pod->node;
    }
    if (!node.empty()) ++named[node];
  }
  std::int32_t most = 0;
  for (const auto& [node, number] : named) most = std::max(most, number);
  std::string found = by_cause;
  if (most > 0 && (found.empty() || named[found] < most)) {
    found = std::find_if(named.begin(), named.end(), [most](const auto& item) { return item.second == most; })->first;
  }
  if (found.empty()) found = reporter;
  return found.empty() ? std::nullopt : std::optional(found);
}

}  // namespace trainyard::decide
