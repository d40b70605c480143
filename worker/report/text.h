#pragma once
// Reports for people.

#include <string>

#include "crds/contract/state.h"

namespace trainyard::report {

/// One line, without the line feed: `step 120/500  loss 3.1100  …`; of what was not measured nothing is said.
std::string to_text(const contract::Report& report);

}  // namespace trainyard::report
