#!/usr/bin/env bash
# From nothing to a trained model: installs what is missing, builds, starts the local cluster, installs the chart, applies
# crds/examples/dictionary-tiny.yaml and shows its progress. Run again, also in another checkout, it finds what is there, and trains anew: the
# job's own checkpoints are removed.
# TRAINYARD_CLUSTER=existing uses the cluster of KUBECONFIG, with the images of CONTROLLER_IMAGE and WORKER_IMAGE (repository:tag),
# and expects the claims `corpus` and `checkpoints` to be there, filled as crds/examples/dictionary-tiny-fill.yaml says.
# A job of the example's name that is there and has ended is replaced; one that has not ended ends this.
set -euo pipefail
cd "$(dirname "$0")/../.."
cluster=${TRAINYARD_CLUSTER:-local}
job=dictionary-tiny
started=$SECONDS

# step WHAT COMMAND...: says what is done and how long it took; shows the output only when it failed.
step() {
  local what=$1 log from=$SECONDS
  shift
  log=$(mktemp)
  printf '%-58s ' "$what ..."
  if "$@" > "$log" 2>&1; then
    printf '%4d s\n' $((SECONDS - from))
    rm -f "$log"
  else
    printf 'failed after %d s; the end of its output:\n' $((SECONDS - from))
    tail -n 40 "$log"
    rm -f "$log"
    exit 1
  fi
}

no_pods() { [ -z "$(kubectl get pods -l "trainyard.dev/job-name=$job" -o name)" ]; }

apply_job() {
  local deadline=$((SECONDS + 180))
  kubectl delete trainingjob "$job" --ignore-not-found --wait --timeout 60s &&
    until no_pods; do [ $SECONDS -lt $deadline ] || return 1; sleep 0.5; done &&
    if [ "$cluster" = local ]; then rm -rf "$DIR/volumes/default/checkpoints/$job" && make_volumes; fi &&
    kubectl apply -f crds/examples/dictionary-tiny.yaml
}

# stop_unless_job_has_ended: on a cluster of the user's own a job of the example's name is replaced only where it has ended.
stop_unless_job_has_ended() {
  local crd found
  crd=$(kubectl get crd trainingjobs.trainyard.dev --ignore-not-found -o name)
  [ -n "$crd" ] || return 0
  found=$(kubectl get trainingjob "$job" --ignore-not-found -o 'jsonpath={.metadata.name} {.status.phase}')
  case $found in
    '') ;;
    *' Succeeded' | *' Failed')
      echo "The job $job that is there has ended: it is deleted and applied again. Its checkpoints stay, and the new one goes on from"
      echo "them: empty the volume of the claim checkpoints to see it train from the start." ;;
    *)
      echo "There is a job $job that has not ended. If it may go: kubectl delete trainingjob $job, then run this again." >&2
      exit 1 ;;
  esac
}

# The phase, and after it, a line each, why the job is not placed.
STATE='{{with .status}}{{.phase}}{{range .conditions}}{{if and (eq .status "False") (or (eq .type "Accepted") (eq .type "Placed"))}}
  {{.type}}: {{.message}}{{end}}{{end}}{{end}}'

# Shows every change of the job until it has ended, and why it waits where it does; 10 minutes at most.
watch_job() {
  local watcher state phase='' why said='' failures=0 deadline=$((SECONDS + 600)) pending_since=$SECONDS
  kubectl get trainingjob "$job" -w &
  watcher=$!
  trap 'kill "$watcher" 2> /dev/null || true' EXIT
  while [ "$phase" != Succeeded ] && [ "$phase" != Failed ] && [ $SECONDS -lt $deadline ]; do
    sleep 1
    if ! state=$(kubectl get trainingjob "$job" --request-timeout 5s -o go-template="$STATE"); then
      failures=$((failures + 1))
      [ $failures -lt 3 ] && continue  # one answer that fails ends nothing
      echo "kubectl could not read the job three times in a row. Run this again when the API server answers." >&2
      exit 1
    fi
    failures=0
    phase=${state%%$'\n'*} why=${state#"${state%%$'\n'*}"}
    [ "$phase" = Pending ] || pending_since=$SECONDS
    if [ $((SECONDS - pending_since)) -gt 5 ] && [ "$why" != "$said" ]; then
      echo "It waits:$why"
      said=$why
    fi
  done
  sleep 1  # the watch shows the last line
  kill "$watcher" 2> /dev/null || true
  wait "$watcher" 2> /dev/null || true  # it ends by that signal
  trap - EXIT
  [ "$phase" = Succeeded ] || { kubectl describe trainingjob "$job"; exit 1; }
}

case $cluster in
  local)
    step "Installing what is missing (cold: 7 to 10 minutes)" .ci/setup packages torch kubernetes cluster
    step "Building the programs (cold: about 5 minutes)" make --no-print-directory build
    step "Making the images" .ci/images
    step "Unpacking the corpus" .ci/corpus
    step "Starting a cluster of two nodes" tests/cluster/up.sh
    . tests/e2e/lib.sh
    step "Loading the images into the nodes" load_images ;;
  existing)
    : "${CONTROLLER_IMAGE:?say where your cluster finds the image made by: docker build --target controller}"
    : "${WORKER_IMAGE:?say where your cluster finds the image made by: docker build --target worker}"
    kubeconfig=${KUBECONFIG:-$HOME/.kube/config}
    step "Installing kubectl and helm" .ci/setup-kubernetes kubectl helm
    . tests/e2e/lib.sh
    export KUBECONFIG=$kubeconfig
    echo "On the cluster of the context $(kubectl config current-context): the chart in the namespace $SYSTEM, and the job $job."
    stop_unless_job_has_ended ;;
  *) echo "TRAINYARD_CLUSTER is local or existing, not $cluster" >&2; exit 2 ;;
esac
step "Installing the chart" install_chart
step "Applying crds/examples/dictionary-tiny.yaml" apply_job
printf '\n$ kubectl get trainingjob %s -w\n' "$job"
watch_job
[ "$cluster" = existing ] || learnt_english "$job"

hint() { printf '  %-76s %s\n' "$@"; }
printf '\nDone after %d s. What to try next:\n' $((SECONDS - started))
[ "$cluster" = existing ] || echo "  export KUBECONFIG=$KUBECONFIG PATH=$BIN:\$PATH"
hint "kubectl describe trainingjob $job" "conditions and events"
hint "kubectl logs -l trainyard.dev/job-name=$job --prefix --tail=-1" "what the workers said"
hint "kubectl explain trainingjob.spec.parallelism" "what every field means"
[ "$cluster" = local ] || exit 0  # with a cluster of the user's own no programs were built and no corpus was unpacked
hint "make down" "takes the cluster away"
echo "  bin/trainyard-worker run crds/examples/dictionary-tiny.yaml --path /data=corpus --path /checkpoints=/tmp/checkpoints"
