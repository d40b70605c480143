#include "worker/schedule/bucketed_gradients.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/graph_task.h>

#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/mesh/mirror_comm.h"
#include "tests/worker/mesh/ranks.h"
#include "tests/worker/model/live_bytes.h"
#include "worker/plan/cost.h"
#include "worker/schedule/step.h"

namespace trainyard::schedule {
namespace {

using contract::Reduction;

/// Notes what is started and waited for, and whether a backward pass goes on then. Calls end when they are waited for, and no sooner.
class NotingComm final : public mesh::LateComm {
 public:
  NotingComm(mesh::Comm& inner, std::vector<std::string>& notes) : LateComm(inner), notes_(notes) {}
  void all_reduce(at::Tensor& tensor, mesh::ReduceOp op) override {
    note("all of", tensor);
    LateComm::all_reduce(tensor, op);
  }
  std::unique_ptr<mesh::Pending> start_all_reduce(at::Tensor& tensor, mesh::ReduceOp op) override {
    note("begins", tensor);
    return std::make_unique<Noted>(*this, tensor, LateComm::start_all_reduce(tensor, op));
  }
  std::unique_ptr<mesh::Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override {
    note("begins", part);
    return std::make_unique<Noted>(*this, part, LateComm::start_all_gather(whole, part));
  }

 private:
  struct Noted final : mesh::Pending {
    Noted(NotingComm& comm, at::Tensor tensor, std::unique_ptr<mesh::Pending> inner)
        : comm_(comm), tensor_(std::move(tensor)), inner_(std::move(inner)) {}
    void wait() override {
      comm_.note("ends", tensor_);
      inner_->wait();
    }
    NotingComm& comm_;
    at::Tensor tensor_;
    std::unique_ptr<mesh::Pending> inner_;
  };
  void note(const std::string& what, const at::Tensor& of) {
    const bool in_backward = torch::autograd::get_current_graph_task_id() >= 0;
    notes_.push_back(what + " " + std::to_string(of.numel()) + (in_backward ? " in backward" : ""));
  }
  std::vector<std::string>& notes_;
};

/// Two layers of 12,320 numbers, an embedding of 2,048 and a head of as many, with a norm of 32.
contract::TrainingJobSpec job(Reduction reduction, std::int32_t micro_batches, std::int32_t pipeline = 1) {
  contract::TrainingJobSpec spec;
  spec.workers.count = 2 * pipeline;
  spec.parallelism.pipeline = pipeline;
  spec.model.size = contract::ModelSize{.layers = 2, .hiddenSize = 32, .heads = 4, .feedForwardSize = 85, .vocabularySize = 64};
  spec.data.sequenceLength = 8;
  spec.training.globalBatchSize = 2 * micro_batches;
  spec.training.reduction = reduction;
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  return spec;
}

StepInput input_of(const contract::TrainingJobSpec& spec) {
  return {.micro_batches = spec.training.globalBatchSize / 2,
          .micro_batch_size = 1,
          .sequence_length = 8,
          .loss_tokens = std::int64_t{8} * spec.training.globalBatchSize,
          .read = [rows = at::arange(9, at::kLong).view({1, 9})](std::int32_t) {
            return MicroBatch{.tokens_BT = rows.narrow(1, 0, 8), .targets_BT = rows.narrow(1, 1, 8)};
          }};
}

/// What data rank 0 of the first stage exchanges in a step.
std::vector<std::string> notes_of(const contract::TrainingJobSpec& spec) {
  const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
  std::vector<std::string> notes;
  mesh::run_ranks(layout, [&](mesh::Mesh& plain) {
    at::set_num_threads(1);
    std::vector<std::string> mine;
    const auto late = [](mesh::Comm& comm) { return std::make_unique<mesh::LateComm>(comm); };
    mesh::Mesh mesh(plain.layout(), plain.rank(), plain.device(),
                    {.world = late(plain.world()),
                     .data = std::make_unique<NotingComm>(plain.data(), mine),
                     .tensor = late(plain.tensor()),
                     .pipeline = late(plain.pipeline()),
                     .activations = late(plain.activations()),
                     .gradients = late(plain.gradients()),
                     .activations_around = late(plain.activations(true)),
                     .gradients_around = late(plain.gradients(true)),
                     .shards = nullptr,
                     .replicas = nullptr});
    model::Parameters parameters(spec, mesh);
    parameters.initialize(1);
    auto chunks = model::llama_chunks(spec, parameters, mesh);
    StepRunner runner(spec, parameters, chunks, mesh);
    runner.run(input_of(spec));
    if (plain.rank() == 0) notes = mine;
  });
  return notes;
}

/// In the order in which backward comes to them; what is left ends with the step.
const std::vector<std::string> kAllAtOnce{"begins 2080 in backward",
                                          "begins 12320 in backward",
                                          "begins 12320 in backward",
                                          "begins 2048 in backward",
                                          "ends 2080",
                                          "ends 12320",
                                          "ends 12320",
                                          "ends 2048",
                                          "all of 1"};  // the loss

TEST(BucketedGradients, WithoutZeroExchangesEachUnitWhileBackwardDoesTheNextOnes) {
  EXPECT_EQ(notes_of(job(Reduction::kFast, 1)), kAllAtOnce);
}

TEST(BucketedGradients, WithoutZeroExchangesTheSumOfAllMicroBatchesOnce) {
  EXPECT_EQ(notes_of(job(Reduction::kFast, 3)), kAllAtOnce);
}

/// Whose loss is gathered.
TEST(BucketedGradients, UnderCanonicalHasTwoExchangesUnderWayAtTheMostSinceTheyTakeMemory) {
  const std::vector<std::string> expected{"begins 2080 in backward",
                                          "begins 12320 in backward",
                                          "ends 2080 in backward",
                                          "begins 12320 in backward",
                                          "ends 12320 in backward",
                                          "begins 2048 in backward",
                                          "ends 12320",
                                          "ends 2048"};
  EXPECT_EQ(notes_of(job(Reduction::kCanonical, 1)), expected);
}

TEST(BucketedGradients, OfOneChunkOfAStageAreExchangedBesideTheBackwardOfTheOtherWhereThatTakesNoMemory) {
  const auto notes = [](Reduction reduction) {
    auto spec = job(reduction, 2, 2);
    spec.model.size->layers = 4;
    spec.parallelism.pipelineSchedule = {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 2};
    return notes_of(spec);
  };
  EXPECT_EQ(notes(Reduction::kFast),
            (std::vector<std::string>{"begins 12320 in backward", "begins 12320 in backward", "begins 2048 in backward",
                                      "ends 12320", "ends 12320", "ends 2048", "all of 1"}));
  EXPECT_EQ(notes(Reduction::kCanonical),
            (std::vector<std::string>{"begins 12320 in backward", "ends 12320", "begins 12320 in backward",
                                      "begins 2048 in backward", "ends 12320", "ends 2048"}))
      << "before the next backward begins";
}

TEST(BucketedGradients, OfABackwardThatIsSplitInTwoGoWhenItIsDone) {
  auto spec = job(Reduction::kFast, 2, 2);
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kZeroBubble;
  EXPECT_EQ(notes_of(spec), (std::vector<std::string>{"begins 2048", "begins 12320", "ends 2048", "ends 12320", "all of 1"}));
}

/// Of a tied embedding's two sums the look-up's is what both are added up in; the head's would take its memory beside AdamW's step.
TEST(BucketedGradients, WithoutZeroAreNowhereButInWhatAStepGives) {
  at::set_num_threads(1);
  for (const auto reduction : {Reduction::kFast, Reduction::kCanonical}) {
    auto spec = job(reduction, 2);
    spec.model.size->tieEmbeddings = true;
    const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
    const test::LiveBytes live;
    auto mesh = mesh::mirrored(layout);
    model::Parameters parameters(spec, mesh);
    parameters.initialize(1);
    auto chunks = model::llama_chunks(spec, parameters, mesh);
    StepRunner runner(spec, parameters, chunks, mesh);
    runner.run(input_of(spec));  // what is made once is there then
    const auto input = input_of(spec);
    const std::int64_t before = test::LiveBytes::now();
    const auto result = runner.run(input);
    EXPECT_EQ(test::LiveBytes::now() - before, 4 * (plan::num_parameters(*spec.model.size) + 1)) << "and the loss";
    EXPECT_EQ(result.gradients.size(), parameters.all().size());
  }
}

}  // namespace
}  // namespace trainyard::schedule
