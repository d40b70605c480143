#pragma once
// YAML files as JSON, for the tests of the API: what kubectl does before it sends a manifest.

#include <charconv>
#include <string>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "crds/contract/fields.h"
#include "tests/paths.h"

namespace trainyard::crd_test {

using contract::Json;

/// A plain scalar by the core schema of YAML 1.2: null, true, false, a whole number, a number, or else a string.
inline Json scalar_from(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text.empty() || text == "~" || text == "null") return nullptr;
  if (text == "true" || text == "false") return text == "true";
  const char *begin = text.data(), *end = text.data() + text.size();
  std::int64_t whole = 0;
  if (const auto [at, error] = std::from_chars(begin, end, whole); error == std::errc{} && at == end) return whole;
  double number = 0;
  const bool is_numeric = text.find_first_not_of("0123456789+-.eE") == std::string::npos;
  if (const auto [at, error] = std::from_chars(begin, end, number); is_numeric && error == std::errc{} && at == end)
    return number;
  return text;
}

inline Json json_from(const YAML::Node& node) {
  if (node.IsScalar()) return scalar_from(node);
  if (node.IsSequence()) {
    Json out = Json::array();
    for (const auto& item : node) out.push_back(json_from(item));
    return out;
  }
  if (!node.IsMap()) return nullptr;
  Json out = Json::object();
  for (const auto& item : node) out[item.first.Scalar()] = json_from(item.second);
  return out;
}

/// The documents of a file below the project's root. Throws YAML::Exception where it can't be read.
inline std::vector<Json> load_all(const std::string& path) {
  std::vector<Json> out;
  for (const auto& document : YAML::LoadAllFromFile(test::kSourceDir + ("/" + path))) out.push_back(json_from(document));
  return out;
}
inline Json load(const std::string& path) { return load_all(path).at(0); }

/// The schema of crds/trainingjob.yaml or another.
inline Json load_schema(const std::string& path = "crds/trainingjob.yaml") {
  return load(path).at("spec").at("versions").at(0).at("schema").at("openAPIV3Schema");
}

}  // namespace trainyard::crd_test
