#pragma once
// The rules of crds/trainingjob.yaml in C++, behind validate.h. Fields and messages are the schema's, word for word, so that a user
// reads the same whether the API server refuses a manifest or `trainyard-worker run` does.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::contract {

/// A field's path in two parts, which become text where there is a problem to tell: the same specs are looked at again and again, and nearly
/// all have none. Looks at its parts for as long as it lives.
class FieldPath {
 public:
  FieldPath(const char* whole) : name_(whole) {}
  FieldPath(const std::string& whole) : name_(whole) {}
  FieldPath(std::string_view whole) : name_(whole) {}
  FieldPath(std::string_view in, std::string_view name) : in_(in), name_(name) {}
  std::string text() const { return std::string(in_).append(name_); }

 private:
  std::string_view in_, name_;
};

/// Collects problems, in the order in which they are found.
class Findings {
 public:
  void add(const FieldPath& field, std::string message) { problems_.push_back({field.text(), std::move(message)}); }
  /// Adds a problem with `field` unless `holds`.
  void expect(bool holds, const FieldPath& field, std::string_view message) {
    if (!holds) add(field, std::string(message));
  }
  std::vector<Problem> take() { return std::move(problems_); }

 private:
  std::vector<Problem> problems_;
};

/// Of a field that another engine would not understand.
inline constexpr const char* kTrainyardsAlone =
    "is for the engine Trainyard alone; leave it out and tell the program of your image by its arguments";

/// What is wrong with single values: out of range, or not supported yet.
std::vector<Problem> check_values(const TrainingJobSpec& spec);

/// What does not fit together: degrees and ranks, batch and micro-batch, the model and how it is cut, exactly one of. A value that
/// check_values() refuses is left out of account where it would make no sense.
std::vector<Problem> check_relations(const TrainingJobSpec& spec);

}  // namespace trainyard::contract
