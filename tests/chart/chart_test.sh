#!/usr/bin/env bash
# The chart without a cluster: the CRD in it is that of crds/, it lints, its unit tests pass, it renders with each of its switches, its alerts
# fire when they should (alerts_test.yaml), and Prometheus can read what its dashboard asks for.
# That an API server takes what it renders, and that the controller gets by with those permissions: tests/integration.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=.tools/kubernetes/bin
images=(--set=image.repository=registry.test/controller --set=worker.image.repository=registry.test/worker)
for kind in trainingjob trainingqueue; do
  cmp crds/$kind.yaml helm/files/$kind.yaml || { echo "helm/files/$kind.yaml is not crds/$kind.yaml: run make chart" >&2; exit 1; }
done
"$bin/helm" lint --strict --quiet helm "${images[@]}"
"$bin/helm-unittest" helm
for switch in replicas=1 crds.install=false crds.keep=false networkPolicy.enabled=false metrics.serviceMonitor.enabled=true metrics.podMonitor.enabled=true metrics.alerts.enabled=true metrics.dashboard.enabled=true \
  metrics.port=9090 controllerKey.existingSecret=mine topologyLevels=null podDisruptionBudget.enabled=false logLevel=debug tracing.endpoint=http://a:4318 watchNamespaces={a\,b} watchNamespaces={a}\,readCluster=true; do
  "$bin/helm" template release helm --namespace somewhere "${images[@]}" --set="$switch" > /dev/null
done
if "$bin/helm" template release helm "${images[@]}" --set=logLevel=loud > /dev/null 2>&1; then
  echo "values.schema.json let logLevel=loud pass" >&2
  exit 1
fi

rules=$(mktemp -d)
trap 'rm -rf "$rules"' EXIT
"$bin/helm" template release helm "${images[@]}" --set=metrics.alerts.enabled=true --show-only=templates/alerts.yaml |
  sed '1,/^spec:$/d; s/^  //' > "$rules/alerts.yaml"  # a rule file is the spec of a PrometheusRule
cp tests/chart/alerts_test.yaml "$rules"
python3 - helm/files/dashboard.json > "$rules/dashboard.yaml" << 'X'
import json, sys
asked = [target["expr"] for panel in json.load(open(sys.argv[1]))["panels"] for target in panel["targets"]]
rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
X
.tools/promtool/promtool check rules --lint=all --lint-fatal "$rules/alerts.yaml" "$rules/dashboard.yaml"
.tools/promtool/promtool test rules "$rules/alerts_test.yaml"
echo "chart: ok"
