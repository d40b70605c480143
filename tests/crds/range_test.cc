// The limits of the schema, one by one: read_manifest() refuses the value just outside of each, in the API server's words, and takes
// the one just inside. The limits are read from the schema, so that none can be forgotten.

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <gtest/gtest.h>

#include "crds/contract/validate.h"
#include "tests/crds/yaml.h"

namespace trainyard::crd_test {
namespace {

using namespace trainyard::contract;

/// everything.yaml with `value` at the path, whose [] means the first item; objects and items on the way are made.
Json manifest_with(const std::string& path, const Json& value) {
  static const Json everything = load("crds/examples/everything.yaml");
  Json manifest = everything;
  Json* at = &manifest;
  for (std::size_t from = 0; from <= path.size();) {
    const std::size_t to = std::min(path.find('.', from), path.size());
    std::string name = path.substr(from, to - from);
    const bool is_list = name.ends_with("[]");
    if (is_list) name.resize(name.size() - 2);
    at = &(*at)[name];
    if (is_list) {
      if (!at->is_array() || at->empty()) *at = Json::array({Json()});
      at = &(*at)[0];
    }
    from = to + 1;
  }
  *at = value;
  return manifest;
}

bool has_problem(const Json& manifest, std::string path, const std::string& message) {
  for (std::size_t at; (at = path.find("[]")) != std::string::npos;) path.replace(at, 2, "[0]");
  for (const auto& problem : read_manifest(manifest).problems) {
    if (problem.field == path && problem.message.starts_with(message)) return true;
  }
  return false;
}

std::string text_of(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", number);
  return text;
}

class Limits : public ::testing::Test {
 protected:
  void check_number(const std::string& path, const Json& schema) {
    const bool is_whole = schema.at("type") == "integer";
    const auto value = [&](double number) { return is_whole ? Json(std::llround(number)) : Json(number); };
    const double step = is_whole ? 1 : 1e-3;
    if (schema.contains("minimum")) {
      const double low = schema.at("minimum").get<double>();
      const bool excluded = schema.value("exclusiveMinimum", false);
      expect_limit(path, value(excluded ? low : low - step), value(excluded ? low + step : low),
                   (excluded ? "should be greater than " : "should be greater than or equal to ") + text_of(low));
    }
    if (schema.contains("maximum")) {
      const double high = schema.at("maximum").get<double>();
      const bool excluded = schema.value("exclusiveMaximum", false);
      expect_limit(path, value(excluded ? high : high + step), value(excluded ? high - step : high),
                   (excluded ? "should be less than " : "should be less than or equal to ") + text_of(high));
    }
  }

  void check_length(const std::string& path, const Json& schema) {
    const auto text = [](std::size_t size) { return Json(size == 0 ? "" : "/" + std::string(size - 1, 'a')); };
    if (const auto low = schema.value("minLength", std::size_t{0}); low > 0) {
      expect_limit(path, text(low - 1), text(low), "should be at least " + std::to_string(low) + " chars long");
    }
    if (schema.contains("maxLength")) {
      const auto high = schema.at("maxLength").get<std::size_t>();
      expect_limit(path, text(high + 1), text(high), "may not be more than " + std::to_string(high) + " bytes");
    }
  }

  void check_items(const std::string& path, const Json& schema) {
    const auto items = [](std::size_t size) {
      Json out = Json::array();
      for (std::size_t i = 0; i < size; ++i) out.push_back({{"path", "/" + std::to_string(i)}});
      return out;
    };
    if (const auto low = schema.value("minItems", std::size_t{0}); low > 0) {
      expect_limit(path, items(low - 1), items(low), "should have at least " + std::to_string(low) + " items");
    }
    const auto high = schema.at("maxItems").get<std::size_t>();
    // Lists of other things than sources: their items have problems of their own, but the length is counted all the same.
    if (path.ends_with("onExitCodes") || path.ends_with("onSignals")) {
      const Json item = path.ends_with("onExitCodes") ? Json(1) : Json("SIGKILL");
      expect_limit(path, std::vector<Json>(high + 1, item), std::vector<Json>(high, item), "must have at most");
    } else {
      expect_limit(path, items(high + 1), items(high), "must have at most " + std::to_string(high) + " items");
    }
  }

  void check(const Json& schema, const std::string& path) {
    const std::string type = schema.value("type", "");
    if (type == "integer" || type == "number") check_number(path, schema);
    if (type == "string") check_length(path, schema);
    if (type == "array") {
      check_items(path, schema);
      check(schema.at("items"), path + "[]");
    }
    if (type != "object") return;
    const Json properties = schema.value("properties", Json::object());
    for (const auto& item : properties.items()) check(item.value(), path + "." + item.key());
    for (const auto& name : schema.value("required", Json::array())) check_required(path + "." + name.get<std::string>());
  }

  void check_required(const std::string& path) {
    ++checked_;
    Json manifest = manifest_with(path, nullptr);
    EXPECT_TRUE(has_problem(manifest, path, "Required value")) << path << " is required by the schema";
  }

  int checked_ = 0;

 private:
  void expect_limit(const std::string& path, const Json& outside, const Json& inside, const std::string& message) {
    ++checked_;
    EXPECT_TRUE(has_problem(manifest_with(path, outside), path, message))
        << path << ": " << outside << " is not refused: " << message;
    EXPECT_FALSE(has_problem(manifest_with(path, inside), path, message)) << path << ": " << inside << " is refused: " << message;
  }
};

TEST_F(Limits, OfTheSchemaAreThoseOfValidate) {
  check(load_schema().at("properties").at("spec"), "spec");
  EXPECT_GT(checked_, 110);
}

/// The paths of all fields in `json`, pod template apart.
void collect_paths(const Json& json, const std::string& path, std::vector<std::string>& out) {
  if (!json.is_object() || path == "spec.workers.template") return;
  for (const auto& item : json.items()) {
    const std::string here = path + "." + item.key();
    out.push_back(here);
    collect_paths(item.value(), here, out);
  }
}

TEST(RequiredFields, AreNoOthersThanTheSchemas) {
  std::vector<std::string> paths;
  collect_paths(load("crds/examples/everything.yaml").at("spec"), "spec", paths);
  const Json root = load_schema();
  for (const auto& path : paths) {
    Json schema = root;
    const std::size_t dot = path.rfind('.');
    for (std::size_t from = 0; from < dot;) {
      const std::size_t to = std::min(path.find('.', from), dot);
      schema = Json(schema.at("properties").at(path.substr(from, to - from)));
      from = to + 1;
    }
    const Json required = schema.value("required", Json::array());
    const bool is_required = std::find(required.begin(), required.end(), path.substr(dot + 1)) != required.end();
    EXPECT_EQ(has_problem(manifest_with(path, nullptr), path, "Required value"), is_required) << path;
  }
}

}  // namespace
}  // namespace trainyard::crd_test
