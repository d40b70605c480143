#!/usr/bin/env bash
# How fast gangs get their pods on simulated nodes, beside a bare client: bench-gangs [--rounds N]
# [A|B|C|1024|one-pod|reactions|memory|memory-of-10000|memory-of-50000]...
set -euo pipefail
cd "$(dirname "$0")/../.."
.ci/setup-kubernetes api kwok helm
"${TRAINYARD_BIN_DIR:-build/full/bin}/bench-gangs" "$@"
