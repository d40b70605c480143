#pragma once
// YAML manifests as JSON, read as kubectl's users expect.

#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace trainyard::agent {

/// Where and why a text is no YAML that can be JSON: "line 3, column 5: …".
class YamlError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The documents of a file, empty ones left out. Throws YamlError.
/// Plain scalars follow YAML 1.1 (yaml.org/type): a number with an exponent needs a point, 5.0e-5, or else it is a string. Quoted
/// scalars are strings always. A key that occurs twice in a mapping is an error, for one of the two would be lost.
std::vector<nlohmann::json> json_of_yaml(const std::string& text);

}  // namespace trainyard::agent
