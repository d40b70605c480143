#pragma once
// The table of tests/crds/cases.yaml: manifests, and what is wrong with them.

#include <string>
#include <vector>

#include "crds/contract/fields.h"
#include "tests/crds/yaml.h"

namespace trainyard::crd_test {

struct ExpectedProblem {
  std::string field;
  std::string message;  // validate()'s
  std::string server;   // how the API server's message ends
};

struct Case {
  std::string name;
  Json manifest;
  std::vector<ExpectedProblem> problems;  // none: accepted
};

inline std::vector<Case> load_cases() {
  const Json table = load("tests/crds/cases.yaml");
  std::vector<Case> out;
  for (const auto& row : table.at("cases")) {
    Case one{.name = row.at("name"), .manifest = table.at("base"), .problems = {}};
    one.manifest.merge_patch(row.value("patch", Json::object()));
    for (const auto& problem : row.value("problems", Json::array())) {
      const std::string message = problem.at("message");
      one.problems.push_back({problem.at("field"), message, problem.value("server", message)});
    }
    out.push_back(std::move(one));
  }
  return out;
}

struct Change {
  std::string name;
  Json patch;                          // of the stored base
  std::vector<std::string> immutable;  // the fields that may not change; none: accepted
  std::string message;                 // that says so
};

inline Json load_base() { return load("tests/crds/cases.yaml").at("base"); }

inline std::vector<Change> load_changes() {
  const Json table = load("tests/crds/cases.yaml");  // which has to outlive the loop
  std::vector<Change> out;
  for (const auto& row : table.at("changes")) {
    out.push_back({row.at("name"), row.at("patch"), row.value("immutable", std::vector<std::string>{}),
                   row.value("message",
                             "may not change after the job was created; delete the job and apply it again (its checkpoints "
                             "stay), or use another name")});
  }
  return out;
}

}  // namespace trainyard::crd_test
