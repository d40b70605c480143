#include "worker/trainer/rank_program.h"

#include <chrono>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>

#include "crds/contract/state.h"
#include "crds/contract/user_error.h"
#include "crds/contract/validate.h"
#include "worker/mesh/connect.h"
#include "worker/trainer/training.h"

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

}  // namespace

contract::RankConfig read_config(const std::string& line) {
  const auto json = contract::Json::parse(line, nullptr, false);
  auto decoded = contract::decode<contract::RankConfig>(json);
  if (!decoded.problems.empty()) {
    throw contract::UserError("ConfigurationInvalid", "the rank's configuration:\n" + contract::to_text(decoded.problems));
  }
  if (const auto problems = contract::validate(decoded.value.spec); !problems.empty()) {
    throw contract::UserError("ConfigurationInvalid", contract::to_text(problems));
  }
  return decoded.value;
}

int run_rank(const contract::RankConfig& config, report::Reporter& reporter,
             const std::function<contract::RankControl()>& control) {
  at::set_num_threads(config.threads);
  // CPU kernels are deterministic anyway; on a GPU, Canonical needs the deterministic ones where there is a choice.
  if (config.spec.training.reduction == contract::Reduction::kCanonical)
    at::globalContext().setDeterministicAlgorithms(true, true);
  const auto mesh = mesh::connect(config);
  const c10::OptionalDeviceGuard device(mesh->device());
  checkpoint::PosixStorage storage;
  const Surroundings around{.reporter = reporter, .storage = storage, .control = control, .seconds = [] {
                              return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
                            }};
  return train(config, *mesh, around) == Outcome::kFinished ? contract::kFinishedExitCode : contract::kStoppedExitCode;
}

int guarded(report::Reporter& reporter, const std::function<int()>& body) {
  using contract::FailureClass;
  try {
    return body();
  } catch (const contract::UserError& error) {
    return failed(reporter, FailureClass::kUser, error.reason(), error.what(), contract::kUserErrorExitCode);
  } catch (const mesh::PeerLost& error) {
    return failed(reporter, FailureClass::kTransient, "PeerLost", error.what(), contract::kPeerLostExitCode);
  } catch (const c10::Error& error) {
    return failed(reporter, FailureClass::kUnknown, "EngineError", error.what_without_backtrace(),
                  contract::kEngineErrorExitCode);
  } catch (const std::exception& error) {
    return failed(reporter, FailureClass::kUnknown, "EngineError", error.what(), contract::kEngineErrorExitCode);
  }
}

}  // namespace trainyard::trainer
