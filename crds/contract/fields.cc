#include "crds/contract/fields.h"

#include <cmath>
#include <numeric>

#include "crds/contract/parse_json.h"

namespace trainyard::contract {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string did_you_mean(std::string_view found, const std::vector<std::string>& known) {
  const std::string* best = nullptr;
  std::size_t best_distance = found.size() / 3 + 2;  // further away is another word, not a slip
  for (const auto& name : known) {
    if (const auto distance = edit_distance(found, name); distance < best_distance) {
      best = &name;
      best_distance = distance;
    }
  }
  return best == nullptr ? "" : "; did you mean \"" + *best + "\"?";
}

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

std::string to_text(const std::vector<Problem>& problems) {
  std::string out;
  for (const auto& problem : problems) out += problem.field + ": " + problem.message + "\n";
  return out;
}

namespace detail {

std::string Path::text() const {
  const std::string before = parent_ == nullptr ? "" : parent_->text();
  return is_item_ ? before + "[" + std::to_string(index_) + "]" : join(before, std::string(name_));
}

void unknown_field(const std::string& path, const std::string& name, const std::vector<std::string>& known,
                   std::vector<Problem>& problems) {
  problems.push_back({join(path, name), "unknown field" + did_you_mean(name, known)});
}

void wrong_type(const std::string& path, const char* wanted, const Json& found, std::vector<Problem>& problems) {
  problems.push_back(
      {path, std::string("must be ") + wanted + ", and is " + found.dump(-1, ' ', false, Json::error_handler_t::replace)});
}

void wrong_name(const std::string& path, const std::string& found, const std::vector<std::string>& known,
                std::vector<Problem>& problems) {
  problems.push_back({path, "\"" + found + "\" is not one of: " + listed(known) + did_you_mean(found, known)});
}

void kept_as_it_came(const Path& path, const Json& found, Json& out, std::vector<Problem>& problems) {
  // Schemas bound no depth where they keep unknown fields, and what is kept is copied, compared and printed.
  if (nests_too_deep(found)) {
    problems.push_back({path.text(), "nests deeper than " + std::to_string(kDeepestJson) + " levels"});
  } else {
    out = found;
  }
}

bool whole_number(const Path& path, const Json& found, std::int64_t low, std::int64_t high, std::int64_t& out,
                  std::vector<Problem>& problems) {
  if (found.is_number_unsigned() && found.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
    wrong_type(path.text(), "a smaller whole number", found, problems);
    return false;
  }
  if (found.is_number_integer()) {
    out = found.get<std::int64_t>();
  } else if (found.is_number_float() && std::nearbyint(found.get<double>()) == found.get<double>() &&
             std::abs(found.get<double>()) < 9.0e15) {
    out = static_cast<std::int64_t>(found.get<double>());  // 500.0 is 500, as in the API server
  } else {
    wrong_type(path.text(), "a whole number", found, problems);
    return false;
  }
  if (out >= low && out <= high) return true;
  problems.push_back(
      {path.text(), "must lie in " + std::to_string(low) + " .. " + std::to_string(high) + ", and is " + std::to_string(out)});
  return false;
}

}  // namespace detail
}  // namespace trainyard::contract
