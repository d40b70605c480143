#pragma once
// What an agent answered. The training code beside it can say anything in its name, so that each reply is read as if a stranger had
// written it: whatever the bytes are, a state with what it may hold comes of them, or nothing.

#include <optional>
#include <string>
#include <string_view>

#include "crds/contract/state.h"

namespace trainyard::agents {

/// The state that the body is. Of what it tells too much of, the newest or the end is kept; what is no time, or too long, is left out.
std::optional<contract::State> state_in(std::string_view body);

/// What a refusal says: its status and its `message`, or as much of the body as is readable.
std::string words_of_refusal(unsigned status, const std::string& body);

}  // namespace trainyard::agents
