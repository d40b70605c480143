#include "controller/decide/quantity.h"

#include <array>
#include <cctype>
#include <limits>

namespace trainyard::decide {
namespace {

__extension__ typedef unsigned __int128 Wide;  // a mantissa of any suffix

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
constexpr Wide kWideLimit = Wide{1} << 120;

struct Suffix {
  std::string_view text;
  int ten = 0;  // times ten to this
  int two = 0;  // times two to this
};
constexpr std::array<Suffix, 16> kSuffixes{{{"", 0, 0},
                                            {"n", -9, 0},
                                            {"u", -6, 0},
                                            {"m", -3, 0},
                                            {"k", 3, 0},
                                            {"M", 6, 0},
                                            {"G", 9, 0},
                                            {"T", 12, 0},
                                            {"P", 15, 0},
                                            {"E", 18, 0},
                                            {"Ki", 0, 10},
                                            {"Mi", 0, 20},
                                            {"Gi", 0, 30},
                                            {"Ti", 0, 40},
                                            {"Pi", 0, 50},
                                            {"Ei", 0, 60}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A decimal number as digits x ten^exponent, without rounding.
struct Number {
  Wide digits = 0;
  int exponent = 0;
  std::size_t length = 0;  // of its text; 0: there is none
  bool too_large = false;
};

Number read_number(std::string_view text) {
  Number out;
  bool point = false, any = false;
  for (; out.length < text.size(); ++out.length) {
    const char c = text[out.length];
    if (c == '.' && !point) {
      point = true;
    } else if (is_digit(c)) {
      any = true;
      if (out.digits > kWideLimit / 16) {
        out.too_large = true;
      } else {
        out.digits = out.digits * 10 + static_cast<unsigned>(c - '0');
        if (point) --out.exponent;
      }
    } else {
      break;
    }
  }
  if (!any) out.length = 0;
  return out;
}

/// The suffix: one of kSuffixes, or a decimal exponent such as e6 or E-3.
std::optional<Suffix> read_suffix(std::string_view text) {
  for (const auto& suffix : kSuffixes) {
    if (suffix.text == text) return suffix;
  }
  if (text.size() < 2 || text.size() > 4 || (text[0] != 'e' && text[0] != 'E')) return std::nullopt;
  const bool negative = text[1] == '-';
  std::string_view digits = text.substr(negative || text[1] == '+' ? 2 : 1);
  if (digits.empty()) return std::nullopt;
  int exponent = 0;
  for (const char c : digits) {
    if (!is_digit(c)) return std::nullopt;
    exponent = exponent * 10 + (c - '0');
  }
  return Suffix{text, negative ? -exponent : exponent, 0};
}

}  // namespace

std::optional<std::int64_t> parse_quantity(std::string_view resource, std::string_view text) {
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  const Number number = read_number(text);
  if (number.length == 0) return std::nullopt;
  const auto suffix = read_suffix(text.substr(number.length));
  if (!suffix) return std::nullopt;
  if (number.digits == 0 && !number.too_large) return 0;
  if (number.too_large) return negative ? -kLargest : kLargest;

  Wide value = number.digits;
  int ten = number.exponent + suffix->ten + (resource == "cpu" ? 3 : 0);
  // Grows first, then shrinks once, so that 0.5Gi stays exact.
  for (int i = 0; i < suffix->two; ++i) {
    if (value > kWideLimit) return negative ? -kLargest : kLargest;
    value *= 2;
  }
  for (; ten > 0; --ten) {
    if (value > kWideLimit) return negative ? -kLargest : kLargest;
    value *= 10;
  }
  bool remainder = false;
  for (; ten < 0 && value > 0; ++ten) {
    remainder = remainder || value % 10 != 0;
    value /= 10;
  }
  if (remainder && !negative) ++value;
  if (value > static_cast<Wide>(kLargest)) return negative ? -kLargest : kLargest;
  const auto amount = static_cast<std::int64_t>(value);
  return negative ? -amount : amount;
}

std::string quantity_text(std::string_view resource, std::int64_t amount) {
  if (resource == "cpu") {
    return amount % 1000 == 0 ? std::to_string(amount / 1000) : std::to_string(amount) + "m";
  }
  const bool counts_bytes = resource == "memory" || resource == "ephemeral-storage" || resource.starts_with("hugepages-");
  if (!counts_bytes || amount == 0) return std::to_string(amount);
  constexpr std::array<std::string_view, 6> kUnits{"Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  std::string_view unit;
  for (const auto& larger : kUnits) {
    if (amount % 1024 != 0) break;
    amount /= 1024;
    unit = larger;
  }
  return std::to_string(amount) + std::string(unit);
}

}  // namespace trainyard::decide
