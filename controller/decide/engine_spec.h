#pragma once
// The engine's part of a spec: what ranks are told of it, and whether that is still what the user wants.

#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// What the engines of a gang of that size need. The template and what only the controller obeys are left at their defaults.
contract::TrainingJobSpec engine_spec(const contract::TrainingJobSpec& spec, std::int32_t gang_size);

/// Names the engine's part; status.specHash holds that of the present generation. What has its default has no part in the name, so a release
/// that knows more fields gives the same one to a spec that uses none of them.
std::string spec_hash(const contract::TrainingJobSpec& spec, std::int32_t gang_size);

/// What releases named it that took every field into the name; only a controller with the same fields gives the same one.
std::string older_spec_hash(const contract::TrainingJobSpec& spec, std::int32_t gang_size);
/// Whether a name is one of those.
bool is_older_spec_hash(const std::string& hash);

/// The engine's part was edited since the present generation began, which goes on with the old one: nobody has that any more but the
/// agents that took it.
bool is_spec_edited(const Job& job);

}  // namespace trainyard::decide
