// The schemas of crds/ and the types of crds/contract/job.h and queue.h are the same: every object is walked in both at once.

#include <algorithm>
#include <filesystem>
#include <set>

#include <gtest/gtest.h>

#include "crds/contract/job.h"
#include "crds/contract/queue.h"
#include "crds/contract/validate.h"
#include "tests/crds/yaml.h"
#include "tests/paths.h"

namespace trainyard::crd_test {
namespace {

using namespace trainyard::contract;

constexpr const char* kJobSchema = "crds/trainingjob.yaml";
constexpr const char* kQueueSchema = "crds/trainingqueue.yaml";

std::set<std::string> strings(const Json& schema, const char* name) {
  const auto found = schema.find(name);
  return found == schema.end() ? std::set<std::string>{} : found->get<std::set<std::string>>();
}

/// Adds a line to `differences` for each place where the schema is not the type's.
class Comparison {
 public:
  template <class T>
  void compare(const Json& schema, const std::string& path, bool in_status) {
    if constexpr (Optional<T>) {
      compare<typename T::value_type>(schema, path, in_status);
    } else if constexpr (Described<T>) {
      expect_type(schema, path, "object", "");
      compare_fields<T>(schema, path, in_status);
    } else if constexpr (StringMap<T>) {
      expect_type(schema, path, "object", "");
      compare<typename T::mapped_type>(schema.value("additionalProperties", Json::object()), path + ".*", in_status);
    } else if constexpr (std::is_same_v<T, Quantity>) {
      // Written as text in a status; in a spec as people like.
      if (in_status) return expect_type(schema, path, "string", "");
      expect(schema.value("x-kubernetes-int-or-string", false), path, "is no quantity");
    } else if constexpr (Vector<T>) {
      expect_type(schema, path, "array", "");
      compare<typename T::value_type>(schema.value("items", Json::object()), path + "[]", in_status);
    } else if constexpr (NamedEnum<T>) {
      expect_type(schema, path, "string", "");
      const auto names = enum_names(T{});
      expect(schema.value("enum", Json()) == Json(std::vector<std::string>(names.begin(), names.end())), path,
             "other enum values");
    } else if constexpr (std::is_same_v<T, Json>) {
      expect_type(schema, path, "object", "");
      expect(schema.value("x-kubernetes-preserve-unknown-fields", false), path, "prunes fields that the program keeps");
    } else if constexpr (std::is_same_v<T, bool>) {
      expect_type(schema, path, "boolean", "");
    } else if constexpr (std::is_integral_v<T>) {
      expect_type(schema, path, "integer", sizeof(T) == 4 ? "int32" : "int64");
    } else if constexpr (std::is_floating_point_v<T>) {
      expect_type(schema, path, "number", "");
    } else {
      expect_type(schema, path, "string", schema.value("format", "") == "date-time" ? "date-time" : "");
    }
  }
  std::string differences() const { return differences_; }
  int num_fields() const { return num_fields_; }

 private:
  template <class T>
  void compare_fields(const Json& schema, const std::string& path, bool in_status) {
    const Json properties = schema.value("properties", Json::object());
    auto required = strings(schema, "required");
    for (const auto& rule : schema.value("x-kubernetes-validations", Json::array())) {
      if (rule.value("reason", "") == "FieldValueRequired") required.insert(rule.at("fieldPath").get<std::string>().substr(1));
    }
    std::set<std::string> described;
    T value;
    T::describe(value, [&](const char* name, const auto& field) {
      using Field = std::remove_cvref_t<decltype(field)>;
      described.insert(name);
      const std::string here = path + "." + name;
      if (!properties.contains(name)) return expect(false, here, "is not in the schema");
      ++num_fields_;
      const Json& property = properties[name];
      compare<Field>(property, here, in_status);
      if (in_status) {
        expect(!property.contains("default"), here, "a status has no defaults");
      } else {
        compare_presence(field, property, required.contains(name), here);
      }
    });
    for (const auto& item : properties.items())
      expect(described.contains(item.key()), detail::join(path, item.key()), "is not in the type");
    for (const auto& name : required)
      expect(described.contains(name), detail::join(path, name), "is required and not in the type");
  }

  /// A field of the spec is required (by a rule, where another engine does without it), or has the type's default, or may be left out and is
  /// empty then. Exactly one of these.
  template <class Field>
  void compare_presence(const Field& field, const Json& property, bool is_required, const std::string& path) {
    const bool may_be_absent = Optional<Field> || Vector<Field> || StringMap<Field> || std::is_same_v<Field, Json>;
    const auto found = property.find("default");
    // kubectl apply compares lists as a whole, and would take what the server adds to an item for a change. So the prose has it.
    if (path.find("[]") != std::string::npos) {
      expect(found == property.end(), path, "is below the items of a list, where the server gives no defaults");
      if constexpr (!may_be_absent)
        expect(is_required || says_default(property, encode(field)), path, "its prose does not say its default");
      return;
    }
    if (found == property.end()) {
      expect(is_required || may_be_absent, path, "is neither required, nor optional, nor has it a default");
      expect(!is_required || !Optional<Field>, path, "is required in the schema and optional in the type");
      return;
    }
    expect(!is_required, path, "is required and has a default");
    if constexpr (Optional<Field>) {
      expect(false, path, "has a default in the schema and is optional in the type");
    } else {
      // That of an object must be {}, so that its fields have theirs.
      const Json wanted = Described<Field> || StringMap<Field> ? Json::object() : encode(field);
      expect(*found == wanted, path, "the default is " + found->dump() + " in the schema and " + wanted.dump() + " here");
    }
  }

  static bool says_default(const Json& property, const Json& value) {
    const std::string prose = property.value("description", "");
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    return prose.find(text + " by default") != std::string::npos || prose.find(text + " (default)") != std::string::npos;
  }
  void expect_type(const Json& schema, const std::string& path, const std::string& type, const std::string& format) {
    expect(schema.value("type", "") == type, path, "is no " + type);
    expect(schema.value("format", "") == format, path, "has not the format '" + format + "'");
  }
  void expect(bool holds, const std::string& path, const std::string& what) {
    if (!holds) differences_ += path + ": " + what + "\n";
  }

  std::string differences_;
  int num_fields_ = 0;
};

TEST(Schema, OfTheSpecIsThatOfTheType) {
  Comparison comparison;
  comparison.compare<TrainingJobSpec>(load_schema().at("properties").at("spec"), "spec", false);
  EXPECT_EQ(comparison.differences(), "");
  EXPECT_GT(comparison.num_fields(), 100);
}

TEST(Schema, OfTheStatusIsThatOfTheType) {
  Comparison comparison;
  comparison.compare<TrainingJobStatus>(load_schema().at("properties").at("status"), "status", true);
  EXPECT_EQ(comparison.differences(), "");
  EXPECT_GT(comparison.num_fields(), 50);
}

TEST(QueueSchema, IsThatOfTheTypes) {
  const Json schema = load_schema(kQueueSchema);
  Comparison comparison;
  comparison.compare<TrainingQueueSpec>(schema.at("properties").at("spec"), "spec", false);
  comparison.compare<TrainingQueueStatus>(schema.at("properties").at("status"), "status", true);
  EXPECT_EQ(comparison.differences(), "");
  EXPECT_GT(comparison.num_fields(), 30);
}

TEST(Schema, RequiresNothingOfAStatusButWhatKubernetesRequiresOfAnyCondition) {
  Json status = load_schema().at("properties").at("status");
  Json& conditions = status["properties"]["conditions"]["items"];
  EXPECT_EQ(strings(conditions, "required"),
            (std::set<std::string>{"type", "status", "lastTransitionTime", "reason", "message"}));
  conditions.erase("required");
  EXPECT_EQ(status.dump().find("\"required\""), std::string::npos);
}

/// Calls `visit(path, schema)` for the schema of every property and list item below.
template <class Visit>
void walk(const Json& schema, const std::string& path, const Visit& visit) {
  if (const auto properties = schema.find("properties"); properties != schema.end()) {
    for (const auto& item : properties->items()) {
      const std::string here = path.empty() ? item.key() : path + "." + item.key();
      if (here == "metadata") continue;  // the API server's own
      visit(here, item.value());
      walk(item.value(), here, visit);
    }
  }
  if (const auto items = schema.find("items"); items != schema.end()) {
    visit(path + "[]", *items);
    walk(*items, path + "[]", visit);
  }
}

void check_prose(const Json& whole) {
  walk(whole, "", [](const std::string& path, const Json& schema) {
    const std::string prose = schema.value("description", "");
    EXPECT_GT(prose.size(), path.ends_with("[]") ? 5u : 10u) << path;
    EXPECT_TRUE(prose.ends_with('.') || prose.ends_with(')')) << path << ": no whole sentence: " << prose;
  });
}

void check_defaults(const Json& whole) {
  // Not those of whole objects and empty strings: only what a reader would have to look up.
  walk(whole, "", [](const std::string& path, const Json& schema) {
    const auto found = schema.find("default");
    if (found == schema.end() || found->is_object()) return;
    const std::string prose = schema.value("description", "");
    EXPECT_TRUE(prose.find("default") != std::string::npos || schema.value("enum", Json::array()).size() == 1 ||
                path == "spec.dryRun")
        << path;
  });
}

void check_bounds(const Json& spec) {
  walk(spec, "spec", [](const std::string& path, const Json& schema) {
    const std::string type = schema.value("type", "");
    if (type == "string") {
      EXPECT_TRUE(schema.contains("maxLength") || schema.contains("enum")) << path;
    }
    if (type == "array") {
      EXPECT_TRUE(schema.contains("maxItems")) << path;
      EXPECT_TRUE(schema.contains("x-kubernetes-list-type")) << path;
    }
  });
}

TEST(Schema, HasProseOnEveryField) {
  for (const char* path : {kJobSchema, kQueueSchema}) check_prose(load_schema(path));
}

TEST(Schema, NamesItsDefaultsInTheProse) {
  for (const char* path : {kJobSchema, kQueueSchema}) check_defaults(load_schema(path));
}

TEST(Schema, NamesEachFieldOfTheDataThatMayNotChange) {
  const Json data = load_schema().at("properties").at("spec").at("properties").at("data");
  std::string rule;
  for (const auto& one : data.at("x-kubernetes-validations")) {
    if (one.at("message").get<std::string>().starts_with("may not change")) rule = one.at("rule");
  }
  for (const auto& field : data.at("properties").items()) {
    const bool is_named =
        rule.find("oldSelf." + field.key()) != std::string::npos || rule.find("oldSelf.?" + field.key()) != std::string::npos;
    EXPECT_TRUE(is_named) << field.key();
  }
}

TEST(Schema, BoundsEveryStringAndListOfTheSpecForTheCostOfRules) {
  for (const char* path : {kJobSchema, kQueueSchema}) check_bounds(load_schema(path).at("properties").at("spec"));
}
TEST(Schema, GivesEveryRuleAMessage) {
  int rules = 0;
  const auto check = [&](const std::string& path, const Json& schema) {
    for (const auto& rule : schema.value("x-kubernetes-validations", Json::array())) {
      ++rules;
      const std::string message = rule.value("message", "");
      EXPECT_GT(message.size(), 10u) << path << ": " << rule.at("rule");
      const bool is_refusal = message.find("is not supported yet") != std::string::npos ||
                              message.starts_with("may not change") || message.starts_with("is for the engine");
      const char* reason = is_refusal                             ? "FieldValueForbidden"
                           : message.starts_with("must be given") ? "FieldValueRequired"
                                                                  : "FieldValueInvalid";
      EXPECT_EQ(rule.value("reason", "FieldValueInvalid"), reason) << path;
    }
  };
  for (const char* path : {kJobSchema, kQueueSchema}) {
    check("", load_schema(path));
    walk(load_schema(path), "", check);
  }
  EXPECT_GT(rules, 60);
}

/// The paths of fields that a rule refuses since they, or some of their values, are not supported yet.
std::set<std::string> fields_refused_for_now(const Json& schema) {
  std::set<std::string> fields;
  walk(schema, "", [&](const std::string& path, const Json& field) {
    for (const auto& rule : field.value("x-kubernetes-validations", Json::array())) {
      const bool is_for_now = rule.value("message", "").find("is not supported yet") != std::string::npos;
      if (is_for_now) fields.insert(path + rule.value("fieldPath", ""));
    }
  });
  return fields;
}

TEST(Schema, SaysInTheProseOfAFieldThatSomeOfItIsNotSupportedYetWhereARuleRefusesIt) {
  std::set<std::string> said;
  walk(load_schema(), "", [&](const std::string& path, const Json& field) {
    if (field.value("description", "").find("supported yet") != std::string::npos) said.insert(path);
  });
  EXPECT_EQ(said, fields_refused_for_now(load_schema()));
  EXPECT_GT(said.size(), 5u);
}

TEST(Schema, IsSmallEnoughForClientSideApply) {
  for (const std::string path : {kJobSchema, kQueueSchema}) {
    EXPECT_LT(std::filesystem::file_size(test::kSourceDir + ("/" + path)), 200'000u);
  }
}

TEST(Names, OfTheResourceAreThoseOfTheType) {
  const Json spec = load("crds/trainingjob.yaml").at("spec");
  EXPECT_EQ(spec.at("group"), kGroup);
  EXPECT_EQ(spec.at("versions").at(0).at("name"), kVersion);
  EXPECT_EQ(spec.at("names").at("kind"), kKind);
  EXPECT_EQ(spec.at("names").at("plural"), kPlural);
  const Json queues = load(kQueueSchema).at("spec");
  EXPECT_EQ(queues.at("group"), kGroup);
  EXPECT_EQ(queues.at("names").at("kind"), kQueueKind);
  EXPECT_EQ(queues.at("names").at("plural"), kQueuePlural);
}

}  // namespace
}  // namespace trainyard::crd_test
