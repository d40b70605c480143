#!/usr/bin/env bash
# From `kubectl apply` to the first training step that the status shows, in the warm local cluster, and what the leading controller
# needs meanwhile. Wants the cluster with the chart installed, as `make demo` leaves it.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -e "${TRAINYARD_CLUSTER_DIR:-${TMPDIR:-/tmp}/trainyard-cluster}" ] || { echo "no cluster is up: run make demo first"; exit 0; }
. tests/e2e/lib.sh
for round in 1 2 3; do
  rm -rf "$DIR/volumes/checkpoints/first-step"
  sed 's/NAME/first-step/g' tests/e2e/job.yaml > "$DIR/first-step.yaml"
  from=$(date +%s%N)
  kubectl apply -f "$DIR/first-step.yaml" > /dev/null
  until [ "$(kubectl get trainingjob first-step -o 'jsonpath={.status.progress.step}')" != "" ]; do sleep 0.05; done
  printf 'round %d: apply to the first step in the status: %d ms\n' $round $((($(date +%s%N) - from) / 1000000))
  kubectl delete trainingjob first-step --wait > /dev/null
done
leader=$(kubectl -n $SYSTEM get lease trainyard-controller -o 'jsonpath={.spec.holderIdentity}')
node=$(kubectl -n $SYSTEM get pod "$leader" -o 'jsonpath={.spec.nodeName}')
id=$(kubectl -n $SYSTEM get pod "$leader" -o 'jsonpath={.status.containerStatuses[0].containerID}')
pid=$(on "$node" ctr -n k8s.io tasks ps "${id#containerd://}" | awk 'NR == 2 {print $1}')
on "$node" grep -E 'VmRSS|VmHWM|Threads' "/proc/$pid/status"
