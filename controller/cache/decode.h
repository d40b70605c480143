#pragma once
// API objects as the values that deciding needs: of a pod of 10 KB, some 200 bytes. Objects come from a server that checked them and
// yet may be anything (another version, an admission webhook's doing), so nothing here throws: a field of the wrong type counts as
// left out, and only an object that cannot even be named is refused.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::cache {

using contract::Json;

/// metadata.namespace and metadata.name, which may be empty where the object lacks them.
decide::ObjectKey key_of(const Json& object);
/// metadata.uid.
std::string uid_of(const Json& object);
/// metadata.resourceVersion as a number, which the API server makes it (KEP-5504); 0 where it is none.
std::int64_t revision_of(const Json& object);

/// Takes out what decoding has no use for, which is most of an object: a pod of 30 KB in memory becomes one of 9 KB.
void drop_managed_fields(Json& object);
void shrink_pod(Json& object);
void shrink_node(Json& object);
void shrink_volume(Json& object);
void shrink_namespace(Json& object);

/// Nothing where the object has no name or UID (or, but for what has none, no namespace).
/// `uid`: of a pod that is yet to be made, which has none.
std::optional<decide::Pod> decode_pod(const Json& object, const std::string& uid = "");
std::optional<decide::Node> decode_node(const Json& object, const std::vector<std::string>& unhealthy_conditions = {});
std::optional<decide::Claim> decode_claim(const Json& object);
std::optional<decide::Volume> decode_volume(const Json& object);
std::optional<decide::PriorityClass> decode_priority_class(const Json& object);
std::optional<decide::Queue> decode_queue(const Json& object);
std::optional<decide::Namespace> decode_namespace(const Json& object);
/// `known`, where it is the same job of the same metadata.generation, gives the spec, which then is the same: most changes of a job are
/// of its status.
std::optional<decide::Job> decode_job(const Json& object, const decide::Job* known = nullptr);

}  // namespace trainyard::cache
