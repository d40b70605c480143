// A file for `trainyard-controller replay`: refused in words, or a cluster that says the same once written again.

#include <stdexcept>

#include "controller/decide/snapshot.h"
#include "crds/contract/parse_json.h"
#include "tests/controller/decide/a_world.h"
#include "tests/fuzz/target.h"

using namespace trainyard;
using fuzz::expect;

std::vector<std::string> fuzz::seeds() {
  test::World world = decide::a_running_world();
  world.say(0, [](contract::State& state) { state.progress = contract::Progress{.step = 5, .remainingSeconds = 60}; });
  world.add(test::make_job("b", 3, 8));
  decide::Cluster empty;
  return {decide::to_json(world.cluster, test::at(world.now)).dump(), decide::to_json(empty, {}).dump()};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto json = contract::parse_json(fuzz::text_of(bytes, size));
  if (json.is_discarded()) return 0;
  try {
    const auto snapshot = decide::read_snapshot(json);
    const auto written = decide::to_json(snapshot.cluster, snapshot.now);
    const auto again = decide::read_snapshot(written);
    expect(decide::to_json(again.cluster, again.now) == written, "a snapshot is not read as it was written");
  } catch (const std::invalid_argument& error) {
    expect(error.what() != std::string(), "a snapshot is refused without a word");
  }
  return 0;
}
