#pragma once
// JSON that anybody may have written.

#include <string_view>

#include "crds/contract/fields.h"

namespace trainyard::contract {

/// Nothing of ours nests deeper.
inline constexpr int kDeepestJson = 100;

/// Discarded where the text is no JSON, and where it nests deeper than kDeepestJson: what nests 100,000 deep is read in a loop, but copied,
/// compared and printed by functions that call themselves until the stack is full.
Json parse_json(std::string_view text);

/// The same of JSON that was read already.
bool nests_too_deep(const Json& json);

}  // namespace trainyard::contract
