#pragma once
// Numbers and lists in the messages for users.

#include <cstdint>
#include <string>
#include <vector>

namespace trainyard::decide {

/// "1 worker", "2 workers".
inline std::string counted(std::int64_t number, const std::string& noun) {
  return std::to_string(number) + " " + noun + (number == 1 ? "" : "s");
}

/// "a, b and c".
inline std::string listed(const std::vector<std::string>& items) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) out += (i == 0 ? "" : i + 1 < items.size() ? ", " : " and ") + items[i];
  return out;
}

}  // namespace trainyard::decide
