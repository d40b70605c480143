// A manifest of `trainyard-worker run`: refused in words, or a job that the API server would take too, and that says the same once
// written again.

#include <fstream>
#include <iterator>

#include "tests/fuzz/target.h"
#include "tests/paths.h"
#include "worker/agent/local_manifest.h"

using namespace trainyard;
using fuzz::expect;

std::vector<std::string> fuzz::seeds() {
  std::vector<std::string> out;
  for (const char* name : {"everything.yaml", "dictionary-tiny.yaml", "llama-8b-32gpu.yaml"}) {
    std::ifstream file(std::string(test::kSourceDir) + "/crds/examples/" + name);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!text.empty()) out.push_back(std::move(text));
  }
  expect(!out.empty(), "there is no example");
  return out;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string text(fuzz::text_of(bytes, size));
  const auto manifest = agent::read_local_manifest(text, {{.from = "/", .to = "/here"}}, [](const std::string&) { return true; });
  for (const auto& problem : manifest.problems) expect(!problem.message.empty(), "a problem has no words");
  if (!manifest.problems.empty()) return 0;
  expect(!manifest.name.empty(), "a job has no name");
  expect(contract::validate(manifest.spec).empty(), "what is accepted is not valid");
  const auto again =
      contract::decode<contract::TrainingJobSpec>(contract::encode(manifest.spec), "", contract::UnknownFields::kRefuse);
  expect(again.problems.empty() && again.value == manifest.spec, "a spec is not read as it was written");
  if (contract::world_size(manifest.spec) > 100'000) return 0;  // no machine holds so many
  const auto assignment = agent::local_assignment(manifest, "u", 1, 1);
  expect(static_cast<std::int64_t>(assignment.ranks.size()) == assignment.worldSize, "a rank has nobody who runs it");
  return 0;
}
