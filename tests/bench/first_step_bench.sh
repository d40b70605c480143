#!/usr/bin/env bash
# From `kubectl apply` to the first training step that the status shows, in the warm local cluster, and how much memory the leading
# controller needs meanwhile. Wants the cluster with the chart installed, as `make demo` leaves it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
[ -e "$DIR" ] || { echo "skipped: no local cluster is up; make demo starts one"; exit 0; }
. tests/e2e/words.sh
log=/dev/null
has_step() { is_not "" field first-step progress.step > /dev/null; }
trap 'kubectl delete trainingjob first-step --ignore-not-found --wait > /dev/null' EXIT
for round in 1 2 3 4 5; do
  rm -rf "$DIR/volumes/default/checkpoints/first-step"
  from=$(date +%s%N)
  start first-step
  deadline=$((SECONDS + 60))
  until has_step; do [ $SECONDS -lt $deadline ] || { kubectl describe trainingjob first-step; exit 1; }; done
  printf 'round %d: apply to the first step in the status: %d ms\n' $round $((($(date +%s%N) - from) / 1000000))
  kubectl delete trainingjob first-step --wait > /dev/null
  within 150 no_pods_of first-step
done
holder=$(leader)
node=$(kubectl -n $SYSTEM get pod "$holder" -o 'jsonpath={.spec.nodeName}')
id=$(kubectl -n $SYSTEM get pod "$holder" -o 'jsonpath={.status.containerStatuses[0].containerID}')
pid=$(on "$node" ctr -n k8s.io tasks ps "${id#containerd://}" | awk 'NR == 2 {print $1}')
echo "the leading controller, now and at its peak:"
on "$node" grep -E 'VmRSS|VmHWM' "/proc/$pid/status"
