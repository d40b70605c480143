#pragma once
// Changes to inputs that are hardly found by chance: another value in the place of one in a JSON text, a number that readers get wrong.

#include <random>
#include <string>
#include <vector>

namespace trainyard::fuzz {

using Random = std::mt19937_64;

/// One change of the text, some of them by parts of `seeds`.
void mutate(std::string& text, const std::vector<std::string>& seeds, Random& random);

/// One change of a line of it that is JSON; false where none is.
bool mutate_json(std::string& text, const std::vector<std::string>& seeds, Random& random);

}  // namespace trainyard::fuzz
