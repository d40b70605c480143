#pragma once
// Because of whom a gang stands still: by what its ranks last told of themselves. The idea is that of PyTorch's flight recorder: all ranks of
// a group make the same calls in the same order, so whoever has not come to the call that the others wait in is who they wait for.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/layout.h"
#include "crds/contract/state.h"

namespace trainyard::contract {

/// The reason of a failure that is a hang.
inline constexpr const char* kRankHung = "RankHung";

/// A process that told nothing for so long, though it does so every second, is stopped, or its machine is.
inline constexpr double kSilentSeconds = 3;

struct Blame {
  std::vector<std::int32_t>
      ranks;              // at fault, the lowest first; some may be of workers that told nothing. Empty: nobody can be named
  bool all_wait = false;  // each for another: the calls of the ranks do not match, which is the program's fault
  bool answers =
      false;  // those at fault tell each second that they do nothing: a device that does not answer them, or the program
  std::string message;  // one sentence for people: who, what they did last, and who waits for them in which call
};

/// `activities`: of as many of the gang's ranks as are known, each once; what is none of the layout's ranks is left out.
/// Of those that a waiting rank waits for, directly or through others, the silent are at fault; where none is, those that wait for nobody;
/// where there is none of these either, those of whom nothing is known.
Blame blame_for_hang(const Layout& layout, const std::vector<RankActivity>& activities);

/// `cause` told as the hang that it is of, where it is one: the word of an agent whose rank hangs, or a rank's that it lost another after it had
/// waited in a call for longer than anybody waits for one that has just died. Nothing where it is none, or nobody can be named. `activities`: when
/// the first rank ended; `hang_timeout`: lifecycle.hangTimeoutSeconds. Changes reason, class and message, and the rank where one is at fault.
std::optional<Failure> as_hang(const Failure& cause, const Layout& layout, const std::vector<RankActivity>& activities,
                               std::optional<std::int64_t> hang_timeout);

/// Infrastructure, unless it may be the program's fault: then Unknown, so that a hang that comes again and again uses restarts up.
FailureClass class_of(const Blame& blame);

/// The axis that a group lies along, as people call it: data, tensor, pipeline, or world.
std::string axis_of_group(const std::string& group);

}  // namespace trainyard::contract
