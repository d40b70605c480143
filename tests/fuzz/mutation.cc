#include "tests/fuzz/mutation.h"

#include <algorithm>
#include <iterator>

#include <nlohmann/json.hpp>

namespace trainyard::fuzz {
namespace {

using Json = nlohmann::json;

std::size_t below(Random& random, std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(random() % bound); }

const std::vector<std::string>& odd_values() {
  static const std::vector<std::string> kValues{"-1",
                                                "0",
                                                "1",
                                                "2147483648",
                                                "4294967296",
                                                "9223372036854775807",
                                                "-9223372036854775808",
                                                "9223372036854775808",
                                                "18446744073709551615",
                                                "1e308",
                                                "0.5",
                                                "\"\"",
                                                "\"1\"",
                                                "\"9E\"",
                                                "\"-9E\"",
                                                "\"1e99\"",
                                                "\"0000-01-01T00:00:00Z\"",
                                                "\"9999-12-31T23:59:60+23:59\"",
                                                "[]",
                                                "{}",
                                                "null",
                                                "true",
                                                "[[[[]]]]"};
  return kValues;
}

/// Replaces a number of the text by something that parsers get wrong.
void replace_number(std::string& text, Random& random) {
  const auto begin = text.find_first_of("0123456789", below(random, text.size()));
  if (begin == std::string::npos) return;
  const auto end = text.find_first_not_of("0123456789", begin);
  text.replace(begin, (end == std::string::npos ? text.size() : end) - begin, odd_values()[below(random, odd_values().size())]);
}

/// Some value in it, the outermost rarely.
Json& some_value(Json& json, Random& random) {
  if (!json.is_structured() || json.empty() || below(random, 8) == 0) return json;
  auto child = json.begin();
  std::advance(child, static_cast<std::ptrdiff_t>(below(random, json.size())));
  return some_value(*child, random);
}

void change(Json& json, const std::vector<std::string>& seeds, Random& random) {
  Json& value = some_value(json, random);
  switch (below(random, 7)) {
    case 0:
    case 1: value = Json::parse(odd_values()[below(random, odd_values().size())], nullptr, false); break;
    case 2: {
      Json other = some_value(json, random);
      value = std::move(other);
      break;
    }
    case 3: {
      Json other = Json::parse(seeds[below(random, seeds.size())], nullptr, false);
      if (!other.is_discarded()) value = some_value(other, random);
      break;
    }
    case 4:
      if (value.is_structured() && !value.empty()) {
        value.erase(std::next(value.begin(), static_cast<std::ptrdiff_t>(below(random, value.size()))));
      }
      break;
    case 5:
      if (value.is_array() && !value.empty()) {
        Json again = value[below(random, value.size())];
        value.push_back(std::move(again));
      }
      break;
    case 6:
      if (value.is_string()) value = std::string(1 + below(random, 2'000), 'x');
      break;
  }
}

}  // namespace

bool mutate_json(std::string& text, const std::vector<std::string>& seeds, Random& random) {
  const std::size_t at = below(random, text.size() + 1);
  const std::size_t before = text.rfind('\n', at == 0 ? 0 : at - 1);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  const std::size_t end = std::min(text.find('\n', std::min(begin, text.size())), text.size());
  if (begin >= end) return false;
  Json json = Json::parse(text.substr(begin, end - begin), nullptr, false);
  if (json.is_discarded()) return false;
  change(json, seeds, random);
  text.replace(begin, end - begin, json.dump(-1, ' ', false, Json::error_handler_t::replace));
  return true;
}

void mutate(std::string& text, const std::vector<std::string>& seeds, Random& random) {
  const auto at = below(random, text.size());
  const auto length = 1 + below(random, 16);
  switch (random() % 10) {
    case 0:
      if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
      break;
    case 1: text.insert(at, 1, static_cast<char>(random() % 256)); break;
    case 2: text.erase(at, length); break;
    case 3: text.insert(below(random, text.size()), text.substr(at, length)); break;
    case 4: text.resize(at); break;
    case 5: replace_number(text, random); break;
    case 6: {
      const auto& other = seeds[below(random, seeds.size())];
      text.insert(at, other.substr(below(random, other.size()), length));
      break;
    }
    default: mutate_json(text, seeds, random); break;
  }
}

}  // namespace trainyard::fuzz
