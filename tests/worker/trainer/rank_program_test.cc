#include "worker/trainer/rank_program.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "crds/contract/state.h"
#include "crds/contract/user_error.h"
#include "tests/worker/trainer/reports.h"
#include "tests/worker/trainer/small_job.h"
#include "worker/data/corpus.h"
#include "worker/mesh/comm.h"

namespace trainyard::trainer {
namespace {

contract::RankConfig good_config() {
  contract::RankConfig config;
  config.spec = small_job();
  config.spec.model.size->vocabularySize = 256;
  config.spec.data.train = {{.path = "/data/train"}};
  return config;
}

std::string refusal_of(const std::string& line) {
  try {
    read_config(line);
  } catch (const contract::UserError& error) {
    EXPECT_EQ(error.reason(), "ConfigurationInvalid");
    return error.what();
  }
  return "accepted";
}

TEST(ReadConfig, ReadsWhatTheAgentWrites) {
  const auto config = good_config();
  EXPECT_EQ(read_config(contract::encode(config).dump()), config);
}

TEST(ReadConfig, RefusesALineThatIsNoConfiguration) {
  EXPECT_NE(refusal_of("{\"rank\":\"first\"}").find("rank: "), std::string::npos);
}

TEST(ReadConfig, SaysWhatIsWrongWithALineThatIsNoJsonAndWhere) {
  const auto text = refusal_of("{\"rank\": 1, spec}");
  EXPECT_NE(text.find("the rank's configuration is not JSON: "), std::string::npos) << text;
  EXPECT_NE(text.find("line 1, column 13"), std::string::npos) << text;
  EXPECT_NE(text.find("expected string literal"), std::string::npos) << text;
}

TEST(ReadConfig, RefusesASpecWhoseCostsCannotBeCounted) {
  auto config = good_config();
  config.spec.training.globalBatchSize = config.spec.parallelism.microBatchSize = 1'000'000;
  config.spec.data.sequenceLength = 10'000'000;
  config.spec.model.size->vocabularySize = 1'000'000;
  const auto text = refusal_of(contract::encode(config).dump());
  EXPECT_NE(text.find("asks for more in a step than can be reckoned with"), std::string::npos) << text;
}

TEST(ReadConfig, NamesEveryProblemOfTheSpec) {
  auto config = good_config();
  config.spec.training.globalBatchSize = 7;
  config.spec.parallelism.microBatchSize = 2;
  config.spec.model.size->heads = 5;
  const auto text = refusal_of(contract::encode(config).dump());
  EXPECT_NE(text.find("spec.training.globalBatchSize: "), std::string::npos) << text;
  EXPECT_NE(text.find("spec.model.size.hiddenSize: "), std::string::npos) << text;
}

struct Ended {
  int exit_code = 0;
  contract::Failure failure;
};

Ended ended(const std::function<int()>& body) {
  ReportFile file;
  Ended out;
  {
    report::Reporter reporter(file.descriptor(), true);
    out.exit_code = guarded(reporter, body);
  }
  const auto failures = file.of(contract::ReportKind::kFailure);
  EXPECT_EQ(failures.size(), 1u);
  if (!failures.empty()) out.failure = failures[0].failure.value();
  return out;
}

TEST(Guarded, GivesAUserErrorAsOne) {
  const auto end = ended([]() -> int { throw contract::UserError("CorpusMissing", "data.train[0]: there is nothing at /x"); });
  EXPECT_EQ(end.exit_code, contract::kUserErrorExitCode);
  EXPECT_EQ(end.failure.failureClass, contract::FailureClass::kUser);
  EXPECT_EQ(end.failure.reason, "CorpusMissing");
  EXPECT_EQ(end.failure.message, "data.train[0]: there is nothing at /x");
}

TEST(Guarded, TellsALostPeerFromAnEngineError) {
  const auto lost = ended([]() -> int { throw mesh::PeerLost("Gloo all_reduce: closed"); });
  EXPECT_EQ(lost.exit_code, contract::kPeerLostExitCode);
  EXPECT_EQ(lost.failure.reason, "PeerLost");
  const auto crashed = ended([]() -> int { throw std::runtime_error("no such kernel"); });
  EXPECT_EQ(crashed.exit_code, contract::kEngineErrorExitCode);
  EXPECT_EQ(crashed.failure.failureClass, contract::FailureClass::kUnknown);
  EXPECT_EQ(crashed.failure.message, "no such kernel");
}

std::exception_ptr backend_error(const std::string& text) {
  return std::make_exception_ptr(c10::DistBackendError({__func__, __FILE__, static_cast<std::uint32_t>(__LINE__)}, text));
}

TEST(ALostPeer, IsToldByNcclsWatchdog) {
  const std::string watchdog = "[Rank 1] Process group watchdog thread terminated with exception: ";
  EXPECT_TRUE(tells_of_a_lost_peer(backend_error(watchdog + "NCCL error: remote process exited or there was a network error")));
  EXPECT_TRUE(tells_of_a_lost_peer(backend_error(watchdog + "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)")));
  EXPECT_FALSE(tells_of_a_lost_peer(backend_error(watchdog + "CUDA error: an illegal memory access was encountered")));
  EXPECT_FALSE(tells_of_a_lost_peer(backend_error(watchdog + "NCCL error: unhandled cuda error")));
  EXPECT_FALSE(tells_of_a_lost_peer(std::make_exception_ptr(std::runtime_error("no such kernel"))));
  EXPECT_FALSE(tells_of_a_lost_peer(nullptr));
}

TEST(Guarded, TellsAStorageThatFailedForTheMomentAsTheInfrastructures) {
  const auto end = ended([]() -> int { throw checkpoint::StorageUnavailable("read /checkpoints/x: Stale file handle"); });
  EXPECT_EQ(end.exit_code, contract::kEngineErrorExitCode);
  EXPECT_EQ(end.failure.failureClass, contract::FailureClass::kInfrastructure);
  EXPECT_EQ(end.failure.reason, "StorageUnavailable");
}

TEST(Guarded, TellsACorpusThatCannotBeReadForTheMomentAsTheInfrastructures) {
  const auto end = ended([]() -> int { throw data::CorpusUnavailable("data.train[0].path: read /data/x: Input/output error"); });
  EXPECT_EQ(end.exit_code, contract::kEngineErrorExitCode);
  EXPECT_EQ(end.failure.failureClass, contract::FailureClass::kInfrastructure);
  EXPECT_EQ(end.failure.reason, "CorpusUnavailable");
}

TEST(Guarded, LeavesThePlacesInLibTorchOutOfItsMessage) {
  const auto end = ended([]() -> int { TORCH_CHECK(false, "sizes do not match"); });
  EXPECT_EQ(end.exit_code, contract::kEngineErrorExitCode);
  EXPECT_EQ(end.failure.message.rfind("sizes do not match", 0), 0u);
  EXPECT_EQ(end.failure.message.find("frame #0"), std::string::npos);
}

report::Reporter* the_reporter = nullptr;

void end_by_an_exception_of_a_thread(int descriptor) {
  report::Reporter reporter(descriptor, true);
  the_reporter = &reporter;
  std::set_terminate([] { end_by_exception(*the_reporter); });
  std::jthread([] { TORCH_CHECK(false, "CUDA error: an illegal memory access was encountered"); }).join();
}

TEST(AnExceptionThatNoThreadCatches, IsToldBeforeTheRankEnds) {
  const ReportFile file;
  EXPECT_EXIT(end_by_an_exception_of_a_thread(file.descriptor()), testing::ExitedWithCode(contract::kEngineErrorExitCode), "");
  const auto failures = file.of(contract::ReportKind::kFailure);
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].failure->message.rfind("CUDA error: an illegal memory access was encountered", 0), 0u);
}

}  // namespace
}  // namespace trainyard::trainer
