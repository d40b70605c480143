#pragma once
// Every metric of the controller; docs/operating.md points here.

#include <vector>

#include "controller/observe/metrics.h"

namespace trainyard::observe {

std::vector<MetricDefinition> controller_metrics();

}  // namespace trainyard::observe
