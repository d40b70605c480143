#include "worker/trainer/control_reader.h"

#include <algorithm>

namespace trainyard::trainer {

ControlReader::ControlReader(LineReader lines, std::function<void()> on_gone)
    : on_gone_(std::move(on_gone)), reader_([this, lines = std::move(lines)] { run(lines); }) {}

void ControlReader::run(LineReader lines) {
  while (const auto line = lines.next()) {
    const auto json = contract::Json::parse(*line, nullptr, false);
    const auto decoded = contract::decode<contract::RankControl>(json);
    if (!decoded.problems.empty()) continue;
    const std::lock_guard lock(mutex_);
    latest_.checkpointRequest = std::max(latest_.checkpointRequest, decoded.value.checkpointRequest);
    if (decoded.value.stopAfter) latest_.stopAfter = std::max(latest_.stopAfter.value_or(0), *decoded.value.stopAfter);
  }
  on_gone_();
}

contract::RankControl ControlReader::latest() const {
  const std::lock_guard lock(mutex_);
  return latest_;
}

}  // namespace trainyard::trainer
