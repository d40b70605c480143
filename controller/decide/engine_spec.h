#pragma once
// The engine's part of a spec: what ranks are told of it, and whether that is still what the user wants.

#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// What an engine needs. The template and what only the controller obeys are left at their defaults.
contract::TrainingJobSpec engine_spec(const contract::TrainingJobSpec& spec);

/// Names the engine's part; status.specHash holds that of the present generation.
std::string spec_hash(const contract::TrainingJobSpec& spec);

/// The engine's part was edited since the present generation began, which goes on with the old one: nobody has that any more but the
/// agents that took it.
bool is_spec_edited(const Job& job);

}  // namespace trainyard::decide
