#pragma once
// Kubernetes resource quantities, counted as kube-scheduler counts them.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trainyard::decide {

/// The amount of `resource` that `text` stands for: thousandths for cpu, whole units (bytes, devices) for everything else, rounded up.
/// Nothing where `text` is no quantity. Too large values become the greatest std::int64_t.
/// Source: k8s.io/apimachinery/pkg/api/resource: 1, 0.5, 500m, 1.5Gi, 12e6, 2E.
std::optional<std::int64_t> parse_quantity(std::string_view resource, std::string_view text);

/// For messages, exact and short: cpu 1500 -> "1500m", memory 1073741824 -> "1Gi", nvidia.com/gpu 8 -> "8".
std::string quantity_text(std::string_view resource, std::int64_t amount);

}  // namespace trainyard::decide
