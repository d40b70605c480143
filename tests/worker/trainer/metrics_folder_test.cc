#include "worker/trainer/metrics_folder.h"

#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "crds/contract/fields.h"
#include "tests/worker/mesh/ranks.h"
#include "tests/worker/trainer/small_job.h"

namespace trainyard::trainer {
namespace {

namespace fs = std::filesystem;

TEST(ATrace, OfAStepWithMoreSpansThanItHoldsSaysHowManyAreLeftOut) {
  const auto path = fs::path(testing::TempDir()) / ("full-trace-" + std::to_string(getpid()));
  auto spec = small_job();
  spec.metrics = contract::MetricFiles{.path = path, .trace = contract::Trace{.steps = {1}}};
  std::vector<std::string> warnings;
  mesh::run_ranks(layout_of(spec, {}), [&](mesh::Mesh& mesh) {
    MetricsFolder folder(spec, mesh, 0, true, [&warnings](const std::string& words) { warnings.push_back(words); });
    folder.before_step(1);
    for (int i = 0; i < 200'004; ++i) {
      const mesh::Timeline::Span span(mesh.timeline(), mesh::Work::kForward);
    }
    folder.after_step(1);
  });
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0].rfind("the trace of step 1 holds the first 200000 spans of rank 0, and not the 4 that came after", 0), 0u)
      << warnings[0];
  fs::remove_all(path);
}

}  // namespace
}  // namespace trainyard::trainer
