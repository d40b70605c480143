#pragma once
// What a person sees of `trainyard-worker run`: on a terminal one progress line that is written over, else a line every N steps.

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

#include "crds/contract/state.h"

namespace trainyard::agent {

/// step 120/500 (24%) | loss 3.110 | 5,210 tokens/s | 1 min 13 s left
std::string progress_text(const contract::Progress& progress);
/// A failure with its evidence, several lines.
std::string failure_text(const contract::Failure& failure);

class Console {
 public:
  struct Options {
    bool terminal = false;
    std::int64_t every_steps = 10;  // without a terminal
  };
  Console(std::ostream& out, Options options) : out_(out), options_(options) {}

  void line(std::string_view text);
  void rank_line(std::int32_t rank, std::string_view text);
  /// What is new in the state since the last one: progress, checkpoints, notices. Outcomes are not shown here.
  void state(const contract::State& state);

 private:
  void progress(const contract::Progress& progress);

  std::ostream& out_;
  Options options_;
  bool open_line_ = false;  // a progress line stands there without its line end
  std::int64_t last_step_ = -1;
  std::int64_t last_shown_step_ = 0;
  std::int64_t last_checkpoint_ = -1;
  std::int64_t last_notice_ = 0;
};

}  // namespace trainyard::agent
