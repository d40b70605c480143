#include "controller/observe/span.h"

namespace trainyard::observe {
namespace {

constexpr std::size_t kTraceId = 3, kSpanId = 36, kFlags = 53, kLength = 55;  // where the parts begin, and the whole

bool is_hex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }
bool is_id(std::string_view text) { return is_hex(text) && text.find_first_not_of('0') != std::string_view::npos; }

bool is_odd(char digit) { return ((digit <= '9' ? digit - '0' : digit - 'a' + 10) & 1) != 0; }

}  // namespace

std::optional<TraceParent> parse_traceparent(std::string_view text) {
  if (text.size() < kLength) return std::nullopt;
  const auto version = text.substr(0, 2), trace_id = text.substr(kTraceId, 32), span_id = text.substr(kSpanId, 16),
             flags = text.substr(kFlags, 2);
  const bool is_longer = text.size() > kLength;
  if (is_longer && (version == "00" || text[kLength] != '-')) return std::nullopt;
  if (text[2] != '-' || text[kSpanId - 1] != '-' || text[kFlags - 1] != '-') return std::nullopt;
  if (!is_hex(version) || version == "ff" || !is_id(trace_id) || !is_id(span_id) || !is_hex(flags)) return std::nullopt;
  return TraceParent{.trace_id = std::string(trace_id), .span_id = std::string(span_id), .sampled = is_odd(flags[1])};
}

}  // namespace trainyard::observe
