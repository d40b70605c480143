#include "worker/agent/local_manifest.h"

#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/paths.h"

namespace trainyard::agent {
namespace {

std::string example() {
  std::ostringstream text;
  text << std::ifstream(test::kSourceDir + std::string("/crds/examples/dictionary-tiny.yaml")).rdbuf();
  return text.str();
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("the example has no " + from);
  return text.replace(at, from.size(), to);
}
bool everything(const std::string&) { return true; }

std::string problems_of(const std::string& yaml) { return contract::to_text(read_local_manifest(yaml, {}, everything).problems); }

TEST(MapPath, ReplacesTheLongestFolderThatAPathLiesIn) {
  const std::vector<PathMapping> mappings = {parse_path_mapping("/data=/home/me/corpus"),
                                             parse_path_mapping("/data/validation/=/v")};
  EXPECT_EQ(map_path("/data/train", mappings), "/home/me/corpus/train");
  EXPECT_EQ(map_path("/data", mappings), "/home/me/corpus");
  EXPECT_EQ(map_path("/data/validation/a.txt", mappings), "/v/a.txt");
  EXPECT_EQ(map_path("/database", mappings), "/database");
  EXPECT_EQ(map_path("/x/y", {parse_path_mapping("/=/root")}), "/root/x/y");
}

TEST(ParsePathMapping, RefusesWhatIsNoPair) {
  for (const char* text : {"/data", "=/data", "/data="}) EXPECT_THROW(parse_path_mapping(text), std::invalid_argument) << text;
}

TEST(ReadLocalManifest, MapsEveryPathOfTheExample) {
  const auto manifest = read_local_manifest(
      example(), {parse_path_mapping("/data=/c"), parse_path_mapping("/checkpoints=/tmp/k")}, [](const std::string& path) {
        return std::set<std::string>{"/c/train", "/c/validation"}.contains(path);
      });
  EXPECT_EQ(contract::to_text(manifest.problems), "");
  EXPECT_EQ(manifest.name, "dictionary-tiny");
  EXPECT_EQ(manifest.spec.data.train.at(0).path, "/c/train");
  EXPECT_EQ(manifest.spec.checkpoint->path, "/tmp/k/dictionary-tiny");
}

TEST(ReadLocalManifest, SaysWhichDataIsNotHereAndWhatToDo) {
  const auto manifest = read_local_manifest(example(), {}, [](const std::string&) { return false; });
  ASSERT_EQ(manifest.problems.size(), 2u);
  EXPECT_EQ(manifest.problems[0].field, "spec.data.train[0].path");
  EXPECT_NE(manifest.problems[0].message.find("--path /data=corpus"), std::string::npos);
}

TEST(ReadLocalManifest, RefusesAMappingOfAFolderThatNoPathOfTheManifestLiesIn) {
  const auto manifest =
      read_local_manifest(example(), {parse_path_mapping("/dta=corpus"), parse_path_mapping("/checkpoints=/tmp/k")}, everything);
  EXPECT_EQ(contract::to_text(manifest.problems),
            "--path /dta=corpus: no path of the manifest is /dta or below it; its paths are /data/train, /data/validation, "
            "/checkpoints/dictionary-tiny\n");
}

TEST(ReadLocalManifest, ExplainsANumberThatYamlTakesForAString) {
  const auto text = problems_of(replaced(example(), "learningRate: 2.0e-3", "learningRate: 5e-5"));
  EXPECT_NE(text.find("spec.training.optimizer.learningRate"), std::string::npos) << text;
  EXPECT_NE(text.find("5.0e-5, not 5e-5"), std::string::npos) << text;
}

TEST(ReadLocalManifest, ListsAllProblemsAtOnce) {
  auto yaml = replaced(example(), "steps: 500", "stpes: 500");
  yaml = replaced(yaml, "globalBatchSize: 16", "globalBatchSize: \"16\"");
  const auto text = problems_of(yaml);
  EXPECT_NE(text.find("stpes"), std::string::npos) << text;
  EXPECT_NE(text.find("globalBatchSize"), std::string::npos) << text;
}

TEST(ReadLocalManifest, FindsTheOneJobAmongOtherDocuments) {
  EXPECT_EQ(problems_of("kind: PersistentVolumeClaim\n---\n" + example()), "");
  EXPECT_NE(problems_of(example() + "\n---\n" + example()).find("several TrainingJobs"), std::string::npos);
  EXPECT_NE(problems_of("").find("no TrainingJob"), std::string::npos);
  EXPECT_NE(problems_of("a: [").find("line "), std::string::npos);
}

TEST(ReadLocalManifest, RefusesWhatOnlyAClusterCanDo) {
  EXPECT_EQ(problems_of(replaced(example(), "spec:\n", "spec:\n  dryRun: true\n")),
            "spec.dryRun: asks a cluster what would become of the job; set it to false to train here\n");
  std::ostringstream custom;
  custom << std::ifstream(test::kSourceDir + std::string("/crds/examples/custom-torchrun-ddp.yaml")).rdbuf();
  EXPECT_EQ(problems_of(custom.str()),
            "spec.engine: Custom runs the template's image in a cluster; only the engine Trainyard trains here\n");
}

TEST(LocalAssignment, RunsEveryRankHere) {
  const auto assignment = local_assignment(read_local_manifest(example(), {}, everything), "run-1", 3, 4242);
  EXPECT_EQ(assignment.ranks, (std::vector<std::int32_t>{0, 1}));
  EXPECT_EQ(assignment.worldSize, 2);
  EXPECT_EQ(assignment.generation, 3);
  EXPECT_EQ(assignment.jobUid, "run-1");
  EXPECT_EQ(assignment.job, "local/dictionary-tiny");
  EXPECT_EQ(assignment.rendezvous, (contract::Rendezvous{.host = "127.0.0.1", .port = 4242}));
  EXPECT_TRUE(assignment.spec.workers.templ.empty()) << "pods have no say here";
}

}  // namespace
}  // namespace trainyard::agent
