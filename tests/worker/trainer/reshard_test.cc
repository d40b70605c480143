// A checkpoint of any layout of up to 8 ranks, read in any other: the state is the same to the bit, and so is the next step where the degree
// of tensor parallelism is. A covering set by default; every pair with TRAINYARD_MATRIX=all (`make matrix`).
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "crds/contract/validate.h"
#include "tests/worker/data/scratch_folder.h"
#include "tests/worker/trainer/covering_set.h"
#include "tests/worker/trainer/in_layouts.h"
#include "worker/checkpoint/checkpointer.h"

namespace trainyard::trainer {
namespace {

constexpr std::int64_t kSteps = 2;  // before the checkpoint
constexpr std::size_t kMostPairs = 400;

struct Place {
  contract::Degrees degrees;
  std::int32_t zero = 0;
  bool sequence = false;

  std::string text() const {
    return "pp " + std::to_string(degrees.pp) + ", dp " + std::to_string(degrees.dp) + ", tp " + std::to_string(degrees.tp) +
           ", zero " + std::to_string(zero) + (sequence ? ", sequence" : "");
  }
};

/// Shards cut its matrices in the middle (docs/design/0011-zero.md); all layouts sum 8 micro-batches alike.
contract::TrainingJobSpec job_in(const Place& place) {
  auto spec = small_job(contract::Reduction::kCanonical);
  spec.model.size = contract::ModelSize{
      .layers = 9, .hiddenSize = 96, .heads = 4, .keyValueHeads = 4, .feedForwardSize = 64, .vocabularySize = 259};
  spec.data.sequenceLength = 8;
  spec.data.train = {{.path = "/data"}};
  spec.training.steps = 6;
  layout_of(spec, place.degrees);
  spec.parallelism.zero.stage = place.zero;
  spec.parallelism.sequence = place.sequence;
  return spec;
}

const std::vector<contract::Degrees>& all_degrees() {
  static const std::vector<contract::Degrees> all = [] {
    std::vector<contract::Degrees> out;
    for (const int pp : {1, 2, 4, 8}) {
      for (const int dp : {1, 2, 4, 8}) {
        for (const int tp : {1, 2, 4}) {
          if (pp * dp * tp <= 8) out.push_back({.pp = pp, .dp = dp, .tp = tp});
        }
      }
    }
    return out;
  }();
  return all;
}

/// But for what is the same as another: one data rank has no shards, one tensor rank no sequence parallelism.
bool is_another(const Place& place) {
  if (place.degrees.dp == 1 && place.zero > 0) return false;
  return !place.sequence || place.degrees.tp > 1;
}

struct Pair {
  Place from, to;
  explicit Pair(const Combination& values)
      : from{all_degrees()[static_cast<std::size_t>(values[0])], values[1], values[2] != 0},
        to{all_degrees()[static_cast<std::size_t>(values[3])], values[4], values[5] != 0} {}
};

std::vector<Combination> all_pairs() {
  std::vector<Combination> places, out;
  for (int degrees = 0; degrees < std::ssize(all_degrees()); ++degrees) {
    for (const int zero : {0, 1, 2, 3}) {
      for (const int sequence : {0, 1}) {
        if (is_another({all_degrees()[static_cast<std::size_t>(degrees)], zero, sequence != 0})) {
          places.push_back({degrees, zero, sequence});
        }
      }
    }
  }
  for (const auto& from : places) {
    for (const auto& to : places) {
      out.push_back(from);
      out.back().insert(out.back().end(), to.begin(), to.end());
    }
  }
  return out;
}

/// Whole tensors: weights and both moments.
using State = std::map<std::string, at::Tensor>;

void add_to(State& state, const Engine& engine) {
  for (const auto& shard : engine.shards()) {
    const auto whole = state.try_emplace(shard.name, at::full(shard.global_shape, NAN)).first->second;
    const std::vector<std::int64_t> origin(shard.global_shape.size(), 0);
    checkpoint::view_of(whole, origin, checkpoint::box_of(shard)).copy_(shard.local);
  }
}

void expect_equal(const State& found, const State& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, tensor] : expected) EXPECT_TRUE(at::equal(found.at(name), tensor)) << name;
}

struct Continued {
  State at_the_checkpoint, a_step_later;
  double next_loss = 0;
};

/// Trains to the checkpoint, which it writes into the folder where there is none yet and reads where there is, and one step further.
Continued go_on(const Place& place, const std::filesystem::path& folder) {
  auto spec = job_in(place);
  const bool begins = !std::filesystem::exists(folder);
  std::filesystem::create_directories(folder);
  Continued out;
  std::mutex mutex;
  mesh::run_ranks(layout_of(spec, place.degrees), [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    checkpoint::PosixStorage disk;
    checkpoint::Options options{
        .path = folder.string(), .loss_of = {}, .job = "default/small", .job_uid = "uid", .generation = 1};
    options.layout = options.identity = contract::Json::object();
    checkpoint::Checkpointer checkpointer(options, mesh.world(), disk);
    checkpointer.open();
    Engine engine(spec, mesh, *spec.training.steps);
    if (begins) {
      engine.initialize();
      for (std::int64_t step = 0; step < kSteps; ++step) engine.step(made_up_input(spec, mesh, step));
      checkpointer.start({.step = kSteps, .state = contract::Json::object(), .shards = engine.shards(), .request = {}});
      EXPECT_EQ(checkpointer.finish()->failure, "");
    } else {
      EXPECT_TRUE(checkpointer.load(engine.shards()));
      engine.resume({.steps = kSteps});
    }
    const auto add = [&](State& state) {
      const std::lock_guard lock(mutex);
      add_to(state, engine);
    };
    add(out.at_the_checkpoint);
    const double loss = engine.step(made_up_input(spec, mesh, kSteps)).loss;
    add(out.a_step_later);
    if (mesh.world().rank() == 0) out.next_loss = loss;
  });
  return out;
}

/// What a layout wrote.
class Written {
 public:
  explicit Written(const Place& place) : of_(place.text()), gave_(go_on(place, path())) {}

  const std::string& of() const { return of_; }
  std::filesystem::path path() const { return folder_.path() / "checkpoints"; }
  const Continued& gave() const { return gave_; }

 private:
  const ScratchFolder folder_;
  std::string of_;
  Continued gave_;
};

TEST(Reshard, LayoutsOfUpToEightRanksGoOnFromEachOthersCheckpoints) {
  const char* const wanted = std::getenv("TRAINYARD_MATRIX");
  const auto all = all_pairs();
  const bool wants_all = wanted != nullptr && std::string(wanted) == "all";
  auto pairs = wants_all ? all : covering_set(all);
  std::sort(pairs.begin(), pairs.end());  // so that there is one checkpoint at a time
  EXPECT_GE(pairs.size(), all_degrees().size() * all_degrees().size()) << "all degrees to all";
  if (!wants_all) {
    EXPECT_LE(pairs.size(), kMostPairs);
  }
  std::optional<Written> written;
  double furthest = 0;
  for (const auto& values : pairs) {
    const Pair pair(values);
    SCOPED_TRACE("from " + pair.from.text() + " to " + pair.to.text());
    ASSERT_TRUE(contract::validate(job_in(pair.to)).empty()) << contract::to_text(contract::validate(job_in(pair.to)));
    if (!written || written->of() != pair.from.text()) written.emplace(pair.from);
    const auto& gave = written->gave();
    const auto read = go_on(pair.to, written->path());
    expect_equal(read.at_the_checkpoint, gave.at_the_checkpoint);
    if (pair.from.degrees.tp == pair.to.degrees.tp) {
      EXPECT_EQ(read.next_loss, gave.next_loss);
      if (pair.from.sequence == pair.to.sequence) expect_equal(read.a_step_later, gave.a_step_later);
    } else {
      EXPECT_NEAR(read.next_loss, gave.next_loss, 1e-6 * gave.next_loss);
      furthest = std::max(furthest, std::abs(read.next_loss / gave.next_loss - 1));
    }
  }
  std::printf("%zu of %zu pairs; with another tensor degree the next loss differs by %.1e at the most\n", pairs.size(),
              all.size(), furthest);
}

}  // namespace
}  // namespace trainyard::trainer
