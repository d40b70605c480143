#include "controller/kube/managed_fields.h"

#include <gtest/gtest.h>

#include "controller/kube/kube_api.h"

namespace trainyard::kube {
namespace {

/// What is left, parsed.
Json rest_of(const Json& object) { return Json::parse(without_managed_fields(object.dump())); }

Json managed() {
  return {{{"manager", "a \"quoted\" ]}\\"}, {"fieldsV1", {{"k:{\"name\":\"x\"}", {{".", Json::object()}}}}}},
          {{"manager", "b"}}};
}

TEST(ManagedFields, AreLeftOutWhereverTheyStandInTheMetadata) {
  for (const auto& others :
       {Json::object(), Json{{"labels", {{"a", "b"}}}}, Json{{"name", "a"}}, Json{{"labels", 1}, {"name", "a"}}}) {
    Json object = {{"kind", "Pod"}, {"metadata", others}, {"spec", {{"nodeName", "n"}}}};
    const Json bare = object;
    object["metadata"]["managedFields"] = managed();
    EXPECT_EQ(rest_of(object), bare);
    EXPECT_EQ(rest_of({{"object", object}, {"type", "ADDED"}}), Json({{"object", bare}, {"type", "ADDED"}}));
    EXPECT_EQ(rest_of(bare), bare);
  }
}

TEST(ManagedFields, AreNotTakenForThoseThatATemplateOrATextHas) {
  const Json templ = {{"metadata", {{"name", "a"}}}, {"spec", {{"template", {{"metadata", {{"managedFields", {1, 2}}}}}}}}};
  EXPECT_EQ(rest_of(templ), templ);
  const Json text = {{"metadata", {{"annotations", {{"last", R"({"managedFields":[1]})"}}}}}};
  EXPECT_EQ(rest_of(text), text);
}

TEST(ManagedFields, OfATextThatIsCutOffAreLeftAlone) {
  const std::string cut = R"({"metadata":{"managedFields":[{"manager":"a"})";
  EXPECT_EQ(without_managed_fields(cut), cut);
}

}  // namespace
}  // namespace trainyard::kube
