#pragma once
// Who owns which field of an object: up to half of its text, which nobody here reads.

#include <string>
#include <string_view>

namespace trainyard::kube {

/// The JSON text of one object, or of a watch's line about one, without its metadata.managedFields. To read over them takes a twentieth of
/// what it takes to parse them. A text in which they are not found stays as it is. They are looked for before the spec, which may be a
/// user's template of objects.
std::string without_managed_fields(std::string_view json);

}  // namespace trainyard::kube
