#pragma once
// What the controller adds to in a pod template has to be of the kind that it adds to: a list of variables, an object of labels. What is of
// another kind, such as `env` written as a map, would be lost.

#include <vector>

#include "crds/contract/fields.h"

namespace trainyard::decide {

/// One for each field, or item of a list, that is of another kind; what is left out, or null, is of any. Whatever stands beside these is for
/// the API server to judge.
std::vector<contract::Problem> shape_problems(const contract::Json& templ);

}  // namespace trainyard::decide
