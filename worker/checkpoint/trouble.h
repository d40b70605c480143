#pragma once
// What went wrong with a checkpoint's files, and whom that concerns.

#include <exception>
#include <string>

namespace trainyard::checkpoint {

/// In the order in which one outweighs another, when several ranks have some.
enum class Trouble {
  kNone,
  kCorrupt,  // the files are not what they must be, or are missing: another checkpoint may be right
  kRefused,  // permission, room, a path that is no folder: the user has to mend it
  kPassing   // storage, memory or a device fails for the moment: what the files hold is not known
};

struct Problem {
  Trouble trouble = Trouble::kNone;
  std::string text;  // empty: none
};

/// What an exception of reading or writing a checkpoint tells.
Problem problem_of(const std::exception& error);

/// What `action` throws; none when it returns. For work whose failure all ranks have to hear of before anyone acts on it.
template <class Action>
Problem problem_in(Action&& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return problem_of(error);
  }
  return {};
}

}  // namespace trainyard::checkpoint
