#include "worker/checkpoint/manifest.h"

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "worker/checkpoint/identity.h"

namespace trainyard::checkpoint {
namespace {

constexpr auto kZeroHash = "0000000000000000";

Manifest example() {
  Manifest manifest{
      .step = 100, .generation = 3, .job = "default/tiny", .jobUid = "uid", .state = {{"samples", 1600}, {"rate", 0.1}}};
  manifest.files = {{"rank-00000.safetensors", {.bytes = 200, .headerHash = kZeroHash}},
                    {"rank-00001.safetensors", {.bytes = 200, .headerHash = kZeroHash}}};
  manifest.tensors["w"] = {.dtype = "F32",
                           .shape = {4, 2},
                           .hash = "00000000000000ff",
                           .boxes = {{"rank-00000.safetensors", {0, 0}, {2, 2}}, {"rank-00001.safetensors", {2, 0}, {2, 2}}}};
  manifest.tensors["step"] = {.dtype = "I64", .shape = {}, .hash = kZeroHash, .boxes = {{"rank-00000.safetensors", {}, {}}}};
  return manifest;
}

std::string problems_after(const std::function<void(Manifest&)>& change) {
  auto manifest = example();
  change(manifest);
  std::string all;
  for (const auto& problem : problems_of(manifest)) all += problem + "\n";
  return all;
}

TEST(Manifest, IsReadAsItWasWritten) {
  ASSERT_TRUE(problems_of(example()).empty());
  EXPECT_EQ(parse_manifest(to_text(example()), "m"), example());
}

TEST(Manifest, IsRefusedWhenAnyByteOfItChanged) {
  const auto text = to_text(example());
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const int bit : {0, 1, 5, 7}) {
      auto other = text;
      other[i] = static_cast<char>(other[i] ^ (1 << bit));
      EXPECT_THROW(parse_manifest(other, "m"), CorruptFile) << "byte " << i << ", bit " << bit;
    }
    EXPECT_THROW(parse_manifest(text.substr(0, i), "m"), CorruptFile) << "cut at " << i;
  }
  EXPECT_THROW(parse_manifest(text + " ", "m"), CorruptFile);
}

TEST(Manifest, NamesTheFileThatIsCorrupt) {
  try {
    parse_manifest("{}", "/c/manifest.json");
    FAIL() << "an empty manifest was accepted";
  } catch (const CorruptFile& error) {
    EXPECT_STREQ(error.what(), "/c/manifest.json is corrupt: its hash does not match its content");
  }
}

TEST(Manifest, IsRefusedWithAllProblemsThoughItsHashIsRight) {
  auto manifest = example();
  manifest.version = 0;
  manifest.tensors["w"].boxes.pop_back();
  try {
    parse_manifest(to_text(manifest), "m");
    FAIL() << "the manifest was accepted";
  } catch (const CorruptFile& error) {
    EXPECT_STREQ(error.what(),
                 "m is corrupt: the format's version is 0, and this program reads versions 1 and 2; w has 4 of 8 elements");
  }
}

TEST(Manifest, OfANewerProgramIsNotCorrupt) {
  auto manifest = example();
  manifest.version = 3;
  try {
    parse_manifest(to_text(manifest), "m");
    FAIL() << "the manifest was accepted";
  } catch (const contract::UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "m was written by a newer program: its format has version 3, and this one reads versions up to 2: use an image as new "
        "as that one");
  }
}

/// Programs that know version 1 alone refuse version 2 by name, and would take codes of version 1 for corrupt.
TEST(Manifest, HasVersion2WithMomentsInCodesAndElseVersion1) {
  auto manifest = example();
  manifest.tensors["w"].dtype = "BF16";
  set_version(manifest);
  EXPECT_EQ(manifest.version, 1);
  manifest.tensors["optimizer.exp_avg.w"] = manifest.tensors["w"];
  manifest.tensors["optimizer.exp_avg.w"].dtype = "U8";
  set_version(manifest);
  EXPECT_EQ(manifest.version, 2);
  EXPECT_EQ(parse_manifest(to_text(manifest), "m"), manifest);
  manifest.version = 1;
  EXPECT_EQ(parse_manifest(to_text(manifest), "m"), manifest) << "as builds between the two wrote it";
}

TEST(Manifest, HasAProblemWhenPartsMakeNoWhole) {
  const auto box = [](Manifest& m) -> StoredBox& { return m.tensors["w"].boxes[1]; };
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).offset = {3, 0}; }).find("does not lie within"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).offset = {-1, 0}; }).find("does not lie within"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).offset = {INT64_MAX, 0}; }).find("does not lie within"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).shape = {2, 0}; }).find("does not lie within"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).shape = {2}; }).find("does not lie within"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).shape = {1, 2}; }).find("w has 6 of 8 elements"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).file = "rank-00000.safetensors"; }).find("is twice in"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) { box(m).file = "other"; }).find("which is not listed"), std::string::npos);
  EXPECT_NE(problems_after([&](Manifest& m) {
              m.tensors["w"].shape = {INT64_MAX, 4};
            }).find("impossible shape"),
            std::string::npos);
}

TEST(Manifest, HasAProblemWithMalformedValues) {
  EXPECT_NE(problems_after([](Manifest& m) { m.tensors["w"].dtype = "F31"; }).find("no type `F31`"), std::string::npos);
  EXPECT_NE(problems_after([](Manifest& m) { m.tensors["w"].hash = "x"; }).find("16 hexadecimal digits"), std::string::npos);
  EXPECT_NE(problems_after([](Manifest& m) { m.files.begin()->second.headerHash = "x"; }).find("16 hexadecimal digits"),
            std::string::npos);
  EXPECT_NE(problems_after([](Manifest& m) { m.files.begin()->second.bytes = -1; }).find("negative size"), std::string::npos);
  EXPECT_NE(problems_after([](Manifest& m) { m.step = -1; }).find("step is negative"), std::string::npos);
  EXPECT_NE(problems_after([](Manifest& m) { m.format = "x"; }).find("the format is `x`"), std::string::npos);
}

TEST(Manifest, NeverLeadsOutOfItsFolder) {
  for (const auto* name : {"../x", "/etc/passwd", "a/b", "", ".hidden"}) {
    EXPECT_NE(problems_after([&](Manifest& m) {
                m.files[name] = {.bytes = 1, .headerHash = kZeroHash};
              }).find("outside of the checkpoint"),
              std::string::npos)
        << name;
  }
}

TEST(Manifest, AddsUpWhatRanksWrote) {
  Manifest manifest;
  const Fragment first{.tensors = {{"w", {"F32", {4}, "00000000000000ff", {{"a", {0}, {2}}}}}},
                       .files = {{"a", {10, kZeroHash}}}};
  const Fragment second{.tensors = {{"w", {"F32", {4}, "ffffffffffffffff", {{"b", {2}, {2}}}}}},
                        .files = {{"b", {10, kZeroHash}}}};
  add_fragment(manifest, parse_fragment(to_text(first), "f"));
  add_fragment(manifest, second);
  EXPECT_EQ(manifest.tensors["w"].hash, "00000000000000fe");
  EXPECT_EQ(manifest.tensors["w"].boxes.size(), 2u);
  EXPECT_EQ(manifest.files.size(), 2u);
  EXPECT_TRUE(problems_of(manifest).empty());
  EXPECT_THROW(add_fragment(manifest, second), std::invalid_argument);
  EXPECT_THROW(add_fragment(manifest, {.tensors = {{"w", {"F32", {5}, kZeroHash, {}}}}, .files = {}}), std::invalid_argument);
  EXPECT_THROW(parse_fragment("{\"files\":1}", "f"), CorruptFile);
}

TEST(Identity, IsTheModelAndWhatTheDataOrderDependsOn) {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{.layers = 4, .vocabularySize = 256};
  spec.data = {.train = {{.path = "/data/train"}}, .sequenceLength = 64};
  spec.model.size->heads = 4;
  const auto identity = identity_of(spec, {1000});
  auto other = spec;
  other.training.globalBatchSize = 99;
  other.training.steps = 1000;
  other.workers.count = 7;
  other.parallelism.tensor = 2;
  other.training.optimizer.learningRate = 1;
  other.data.train[0].path = "/elsewhere";
  other.data.train[0].weight = 3;
  other.model.size->keyValueHeads = 4;  // as left out
  EXPECT_EQ(differences(identity_of(other, {1000}), identity), std::vector<std::string>{});
  other.model.size->layers = 6;
  other.training.seed = 2;
  other.data.train.push_back({.path = "/more"});
  const std::string why = ", and the order of the samples depends on it: give the source the content that it had";
  EXPECT_EQ(differences(identity_of(other, {1200, 7}), identity),
            (std::vector<std::string>{"data.sources.0.tokens is 1200 in this job and 1000 in the checkpoint" + why,
                                      "data.sources.1.format is \"Text\" in this job and absent in the checkpoint",
                                      "data.sources.1.tokens is 7 in this job and absent in the checkpoint" + why,
                                      "model.size.layers is 6 in this job and 4 in the checkpoint",
                                      "training.seed is 2 in this job and 1 in the checkpoint"}));
}

}  // namespace
}  // namespace trainyard::checkpoint
