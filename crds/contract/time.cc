#include "crds/contract/time.h"

#include <cstdio>

namespace trainyard::contract {
namespace {

struct Civil {
  int year, hour, minute, second, microsecond;
  unsigned month, day;
};

Civil civil(Time time) {
  using namespace std::chrono;
  const auto day = floor<days>(time);
  const year_month_day date{day};
  const hh_mm_ss clock{time - day};
  return {.year = int{date.year()},
          .hour = static_cast<int>(clock.hours().count()),
          .minute = static_cast<int>(clock.minutes().count()),
          .second = static_cast<int>(clock.seconds().count()),
          .microsecond = static_cast<int>(clock.subseconds().count()),
          .month = unsigned{date.month()},
          .day = unsigned{date.day()}};
}

/// The number in `text` from `at` on, `digits` long; -1 where there is none.
int number(std::string_view text, std::size_t at, std::size_t digits) {
  if (at + digits > text.size()) return -1;
  int value = 0;
  for (std::size_t i = at; i < at + digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

}  // namespace

std::string to_rfc3339(Time time) {
  const auto c = civil(time);
  char text[80];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", c.year, c.month, c.day, c.hour, c.minute, c.second);
  return text;
}

std::string to_rfc3339_micro(Time time) {
  const auto c = civil(time);
  char text[80];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%06dZ", c.year, c.month, c.day, c.hour, c.minute, c.second,
                c.microsecond);
  return text;
}

std::optional<Time> parse_rfc3339(std::string_view text) {
  using namespace std::chrono;
  const int year_number = number(text, 0, 4), month_number = number(text, 5, 2), day_number = number(text, 8, 2);
  const int hour = number(text, 11, 2), minute = number(text, 14, 2), second = number(text, 17, 2);
  if (year_number < 0 || month_number < 0 || day_number < 0 || hour < 0 || minute < 0 || second < 0) return std::nullopt;
  if (text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't') || text[13] != ':' || text[16] != ':') {
    return std::nullopt;
  }
  const year_month_day date{year{year_number}, month{static_cast<unsigned>(month_number)},
                            day{static_cast<unsigned>(day_number)}};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  std::size_t at = 19;
  std::int64_t fraction = 0;
  if (at < text.size() && text[at] == '.') {
    std::int64_t unit = 100000;
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10) fraction += (text[at] - '0') * unit;
  }
  if (at >= text.size()) return std::nullopt;
  minutes offset{0};
  if (text[at] == '+' || text[at] == '-') {
    const int offset_hours = number(text, at + 1, 2), offset_minutes = number(text, at + 4, 2);
    if (offset_hours < 0 || offset_minutes < 0 || at + 6 != text.size() || text[at + 3] != ':') return std::nullopt;
    offset = (text[at] == '+' ? 1 : -1) * (hours{offset_hours} + minutes{offset_minutes});
  } else if ((text[at] != 'Z' && text[at] != 'z') || at + 1 != text.size()) {
    return std::nullopt;
  }
  return Time{sys_days{date}} + hours{hour} + minutes{minute} + seconds{second} + microseconds{fraction} - offset;
}

}  // namespace trainyard::contract
