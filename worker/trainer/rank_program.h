#pragma once
// The program trainyard-rank, but for what only a process can do: from its configuration to its exit code.

#include <exception>
#include <functional>
#include <memory>
#include <string>

#include "crds/contract/assignment.h"
#include "worker/checkpoint/storage.h"
#include "worker/mesh/mesh.h"
#include "worker/report/reporter.h"
#include "worker/trainer/heartbeat.h"
#include "worker/trainer/training.h"

namespace trainyard::trainer {

/// What the rank program reads as its first line. Throws contract::UserError, with all problems of the line, where it is none, and where
/// the spec is not one that this program can train.
contract::RankConfig read_config(const std::string& line);

/// Connects and trains. It keeps mesh and training when run() throws: their ends may wait for minutes, for peers that are gone or a
/// disk that is slow, and the failure must be told before. A program that has told it exits without destroying this object.
class RankProgram {
 public:
  RankProgram(contract::RankConfig config, report::Reporter& reporter, std::function<contract::RankControl()> control);

  /// Returns the exit code of an end that is as it should be (crds/contract/state.h). Throws as mesh::connect() and Training do.
  int run();

 private:
  const contract::RankConfig config_;
  checkpoint::PosixStorage storage_;
  const std::shared_ptr<mesh::Timeline> timeline_ = std::make_shared<mesh::Timeline>();
  Heartbeat heartbeat_;
  const Surroundings around_;
  std::unique_ptr<mesh::Mesh> mesh_;
  std::unique_ptr<Training> training_;
};

/// Calls `body`, and turns what it throws into a report of the failure and the exit code that belongs to it.
int guarded(report::Reporter& reporter, const std::function<int()>& body);

/// Reports what ended a rank; returns the exit code that belongs to it.
int report_failure(report::Reporter& reporter, const std::exception_ptr& error);

/// For std::terminate: reports the exception that no thread has caught, as report_failure() does, and ends the program with its exit code; by
/// SIGABRT where there is none. NCCL's process groups look for lost peers and failed devices on threads of their own, and end the program so.
[[noreturn]] void end_by_exception(report::Reporter& reporter);

/// Whether the error that a thread of NCCL's process group ends the program with is another rank's: a connection that broke, or a call
/// that nobody answered. Not so where CUDA itself has failed on this rank, which the same thread reports in the same type.
bool tells_of_a_lost_peer(const std::exception_ptr& error);

}  // namespace trainyard::trainer
