#include "crds/contract/sparse.h"

#include <gtest/gtest.h>

#include "crds/contract/assignment.h"

namespace trainyard::contract {
namespace {

/// A type of one release, and of the next, which has more fields.
struct OfThen {
  std::int32_t size = 1;
  std::optional<std::string> name;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("size", self.size);
    field("name", self.name);
  }
  bool operator==(const OfThen&) const = default;
};
struct Inner {
  double rate = 0.5;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("rate", self.rate);
  }
  bool operator==(const Inner&) const = default;
};
struct OfNow {
  std::int32_t size = 1;
  std::optional<std::string> name;
  std::string kind = "plain";
  Inner inner;
  std::optional<Inner> more;
  std::vector<Inner> list;
  std::map<std::string, Inner> by_name;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("size", self.size);
    field("name", self.name);
    field("kind", self.kind);
    field("inner", self.inner);
    field("more", self.more);
    field("list", self.list);
    field("byName", self.by_name);
  }
  bool operator==(const OfNow&) const = default;
};

TEST(EncodeSparse, SaysTheSameInEveryReleaseOfWhatDoesNotUseItsNewFields) {
  EXPECT_EQ(encode_sparse(OfNow{}), Json::object());
  EXPECT_EQ(encode_sparse(OfNow{.size = 2, .name = "x"}), encode_sparse(OfThen{.size = 2, .name = "x"}));
  EXPECT_NE(encode_sparse(OfNow{.kind = "other"}), encode_sparse(OfThen{}));
}

TEST(EncodeSparse, TellsAnObjectOfDefaultsFromOneThatIsLeftOut) {
  EXPECT_EQ(encode_sparse(OfNow{.more = Inner{}}), Json::parse(R"({"more": {}})"));
  EXPECT_EQ(encode_sparse(OfNow{.list = {{}, {.rate = 1}}}), Json::parse(R"({"list": [{}, {"rate": 1.0}]})"));
  EXPECT_EQ(encode_sparse(OfNow{.by_name = {{"a", {}}}}), Json::parse(R"({"byName": {"a": {}}})"));
}

TEST(EncodeSparse, IsReadBackEqual) {
  const OfNow value{.size = 3, .inner = {.rate = 2}, .more = Inner{}, .list = {{}, {.rate = 1}}, .by_name = {{"a", {.rate = 7}}}};
  EXPECT_EQ(decode<OfNow>(encode_sparse(value), "", UnknownFields::kRefuse).value, value);
}

TEST(EncodeSparse, LeavesNothingOutOfAnAssignmentThatItsReaderNeeds) {
  Assignment whole{.jobUid = "uid", .job = "default/a", .generation = 3, .worker = 1, .ranks = {2, 3}, .worldSize = 4};
  whole.rendezvous = {.host = "10.0.0.1", .port = 29500};
  whole.spec.training.dropout = 0.1;
  whole.spec.data.train.push_back({.path = "/data/train"});
  whole.stopAfter = 0;
  const Assignment amendment{.jobUid = "uid", .generation = 3, .amends = true, .checkpointRequest = 1, .release = true};
  for (const auto& assignment : {whole, amendment}) {
    const auto read = decode<Assignment>(encode_sparse(assignment), "", UnknownFields::kRefuse);
    EXPECT_TRUE(read.problems.empty()) << to_text(read.problems);
    EXPECT_EQ(read.value, assignment);
  }
  EXPECT_EQ(encode_sparse(whole).at("spec"),
            Json::parse(R"({"data": {"train": [{"path": "/data/train"}]}, "training": {"dropout": 0.1}})"));
}

}  // namespace
}  // namespace trainyard::contract
