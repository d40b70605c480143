#include "worker/trainer/rank_program.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/util/Exception.h>

#include "crds/contract/state.h"
#include "crds/contract/user_error.h"
#include "crds/contract/validate.h"
#include "worker/data/corpus.h"
#include "worker/mesh/connect.h"
#include "worker/plan/reckonable.h"

namespace trainyard::trainer {
namespace {

int failed(report::Reporter& reporter, contract::FailureClass failure_class, std::string reason, std::string message,
           int exit_code) {
  contract::Failure failure;
  failure.failureClass = failure_class;
  failure.reason = std::move(reason);
  failure.message = std::move(message);
  reporter.failure(std::move(failure));
  return exit_code;
}

contract::Json parse_config(const std::string& line) {
  try {
    return contract::Json::parse(line);
  } catch (const contract::Json::parse_error& error) {
    throw contract::UserError("ConfigurationInvalid", std::string("the rank's configuration is not JSON: ") + error.what());
  }
}

}  // namespace

contract::RankConfig read_config(const std::string& line) {
  auto decoded = contract::decode<contract::RankConfig>(parse_config(line));
  if (!decoded.problems.empty()) {
    throw contract::UserError("ConfigurationInvalid", "the rank's configuration:\n" + contract::to_text(decoded.problems));
  }
  if (const auto problems = contract::validate(decoded.value.spec); !problems.empty()) {
    throw contract::UserError("ConfigurationInvalid", contract::to_text(problems));
  }
  if (!plan::is_reckonable(decoded.value.spec)) {  // `trainyard-worker run` asks no controller, which refuses it too
    throw contract::UserError("ConfigurationInvalid",
                              "spec: asks for more in a step than can be reckoned with; make training.globalBatchSize, "
                              "parallelism.microBatchSize, data.sequenceLength or model.size smaller");
  }
  return decoded.value;
}

RankProgram::RankProgram(contract::RankConfig config, report::Reporter& reporter, std::function<contract::RankControl()> control)
    : config_(std::move(config)),
      heartbeat_(reporter, *timeline_, config_.rank),
      around_{
          .reporter = reporter,
          .storage = storage_,
          .control = std::move(control),
          .seconds = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); },
          .wait =
              [this](std::chrono::seconds time) {
                constexpr std::chrono::seconds kSecond{1};
                for (auto left = time; left.count() > 0; left -= kSecond) {
                  timeline_->touch();  // a wait that is meant is no hang
                  std::this_thread::sleep_for(kSecond);
                }
              },
          .measured = [this](const contract::Measures& measures) { heartbeat_.set_measures(measures); },
          .warmed_up = [this] { heartbeat_.beat(); }} {}

int RankProgram::run() {
  const bool canonical = config_.spec.training.reduction == contract::Reduction::kCanonical;
  // cuBLAS is deterministic only with a workspace of fixed size, and reads this at its first product.
  if (canonical) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  at::set_num_threads(config_.threads);
  {
    const mesh::Timeline::Span span(*timeline_, mesh::Work::kConnect);
    mesh_ = mesh::connect(config_, timeline_);
  }
  const c10::OptionalDeviceGuard device(mesh_->device());
  // CPU kernels are deterministic anyway; on a GPU, Canonical needs the deterministic ones where there is a choice, and an error where there
  // is none: that only warned, and attention's backward pass would take its faster way, which adds in any order. What nobody has written is
  // not read, so that filling it first would only cost time.
  if (canonical && mesh_->device().is_cuda()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
  training_ = std::make_unique<Training>(config_, *mesh_, around_);
  const Outcome outcome = training_->run();
  const mesh::Timeline::Span span(*timeline_, mesh::Work::kLeave);
  mesh_->leave();
  return outcome == Outcome::kFinished ? contract::kFinishedExitCode : contract::kStoppedExitCode;
}

int guarded(report::Reporter& reporter, const std::function<int()>& body) {
  try {
    return body();
  } catch (...) {
    return report_failure(reporter, std::current_exception());
  }
}

int report_failure(report::Reporter& reporter, const std::exception_ptr& error) {
  using contract::FailureClass;
  try {
    std::rethrow_exception(error);
  } catch (const contract::UserError& user) {
    return failed(reporter, FailureClass::kUser, user.reason(), user.what(), contract::kUserErrorExitCode);
  } catch (const mesh::PeerLost& lost) {
    return failed(reporter, FailureClass::kTransient, "PeerLost", lost.what(), contract::kPeerLostExitCode);
  } catch (const checkpoint::StorageUnavailable& storage) {
    return failed(reporter, FailureClass::kInfrastructure, "StorageUnavailable", storage.what(), contract::kEngineErrorExitCode);
  } catch (const data::CorpusUnavailable& corpus) {
    return failed(reporter, FailureClass::kInfrastructure, "CorpusUnavailable", corpus.what(), contract::kEngineErrorExitCode);
  } catch (const c10::Error& engine) {
    if (tells_of_a_lost_peer(error)) {
      return failed(reporter, FailureClass::kTransient, "PeerLost", engine.what_without_backtrace(), contract::kPeerLostExitCode);
    }
    return failed(reporter, FailureClass::kUnknown, "EngineError", engine.what_without_backtrace(),
                  contract::kEngineErrorExitCode);
  } catch (const std::exception& other) {
    return failed(reporter, FailureClass::kUnknown, "EngineError", other.what(), contract::kEngineErrorExitCode);
  } catch (...) {
    return failed(reporter, FailureClass::kUnknown, "EngineError", "an exception that says nothing ended the rank",
                  contract::kEngineErrorExitCode);
  }
}

void end_by_exception(report::Reporter& reporter) {
  // Whoever comes second, another thread or an error in here, gives the first the time to tell.
  static std::atomic_flag is_told;
  constexpr std::chrono::seconds kToTell{10};
  const auto error = std::current_exception();
  if (!error) std::abort();
  if (is_told.test_and_set()) {
    std::this_thread::sleep_for(kToTell);
    std::abort();
  }
  const int exit_code = report_failure(reporter, error);
  reporter.close();
  std::_Exit(exit_code);
}

bool tells_of_a_lost_peer(const std::exception_ptr& error) {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const c10::DistBackendError& backend) {
    return !mesh::tells_of_this_device(backend);
  } catch (...) {
    return false;
  }
}

}  // namespace trainyard::trainer
