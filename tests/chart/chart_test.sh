#!/usr/bin/env bash
# The chart without a cluster: the CRD in it is that of crds/, it lints, its unit tests pass, and what it renders fits the
# Kubernetes schemas that need no download (kubeconform's own checks run in the real cluster's install).
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=.tools/kubernetes/bin
cmp crds/trainingjob.yaml helm/files/trainingjob.yaml ||
  { echo "helm/files/trainingjob.yaml is not crds/trainingjob.yaml: run make chart" >&2; exit 1; }
"$bin/helm" lint --strict --quiet helm
"$bin/helm-unittest" helm
for switch in "" --set=replicas=1 --set=crds.install=false --set=metrics.serviceMonitor.enabled=true; do
  "$bin/helm" template release helm --namespace somewhere $switch > /dev/null
done
if "$bin/helm" template release helm --set=logLevel=loud > /dev/null 2>&1; then
  echo "values.schema.json let logLevel=loud pass" >&2
  exit 1
fi
echo "chart: ok"
