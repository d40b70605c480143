#!/usr/bin/env bash
# From nothing to a trained model: installs what is missing, builds, starts the local cluster, installs the chart, applies
# crds/examples/dictionary-tiny.yaml and shows its progress. Run again, it finds what is there.
# TRAINYARD_CLUSTER=existing uses the cluster of KUBECONFIG, with the images of CONTROLLER_IMAGE and WORKER_IMAGE (repository:tag),
# and expects the claims `corpus` and `checkpoints` to be there.
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

load_images() {
  local machine name
  for machine in $(machines | grep -v '^cp$'); do
    for name in controller worker; do
      if [ "$(cat "$DIR/$machine/loaded-$name" 2> /dev/null)" != "$(cat build/images/fingerprint)" ]; then
        load "$machine" "build/images/$name.tar"
        cp build/images/fingerprint "$DIR/$machine/loaded-$name"
      fi
    done
  done
}

install_chart() {
  cp crds/trainingjob.yaml helm/files/trainingjob.yaml
  helm upgrade --install trainyard helm --namespace trainyard-system --create-namespace --wait --timeout 120s \
    --set image.repository="${controller_image%:*}" --set image.tag="${controller_image##*:}" \
    --set worker.image.repository="${worker_image%:*}" --set worker.image.tag="${worker_image##*:}"
  [ "$cluster" != local ] || kubectl -n trainyard-system rollout restart deployment > /dev/null
  kubectl -n trainyard-system rollout status deployment --timeout 120s
}

apply_job() {
  kubectl delete trainingjob "$job" --ignore-not-found --wait --timeout 60s
  if [ "$cluster" = local ]; then
    rm -rf "$DIR/volumes/checkpoints"
    mkdir -p "$DIR/volumes"
    mkdir -m 1777 "$DIR/volumes/checkpoints"
    sed "s|/path/on/the/nodes/corpus|$PWD/corpus|; s|/path/on/the/nodes/checkpoints|$DIR/volumes/checkpoints|" \
      crds/examples/dictionary-tiny-volumes.yaml | kubectl apply -f -
  fi
  kubectl apply -f crds/examples/dictionary-tiny.yaml
}

# Shows every change of the job until it has ended.
watch_job() {
  local watcher phase=
  kubectl get trainingjob "$job" -w &
  watcher=$!
  while [ "$phase" != Succeeded ] && [ "$phase" != Failed ]; do
    sleep 1
    phase=$(kubectl get trainingjob "$job" -o 'jsonpath={.status.phase}')
  done
  sleep 1
  kill "$watcher"
  wait "$watcher" 2> /dev/null || [ $? = 143 ]
  [ "$phase" = Succeeded ] || { kubectl describe trainingjob "$job"; exit 1; }
}

case $cluster in
  local)
    step "Installing what is missing (cold: about 10 minutes)" .ci/setup
    step "Building the programs (cold: about 10 minutes)" make --no-print-directory build
    step "Making the images" .ci/images
    step "Unpacking the corpus" .ci/corpus
    step "Starting a cluster of two nodes" tests/cluster/up.sh
    # shellcheck source=tests/cluster/lib.sh
    . tests/cluster/lib.sh
    controller_image=trainyard.test/controller:dev worker_image=trainyard.test/worker:dev
    step "Loading the images into the nodes" load_images ;;
  existing)
    : "${CONTROLLER_IMAGE:?say where your cluster finds the image made by: docker build --target controller}"
    : "${WORKER_IMAGE:?say where your cluster finds the image made by: docker build --target worker}"
    controller_image=$CONTROLLER_IMAGE worker_image=$WORKER_IMAGE ;;
  *) echo "TRAINYARD_CLUSTER is local or existing, not $cluster" >&2; exit 2 ;;
esac
step "Installing the chart" install_chart
step "Applying crds/examples/dictionary-tiny.yaml" apply_job
printf '\n$ kubectl get trainingjob %s -w\n' "$job"
watch_job

cat <<X

Done after $((SECONDS - started)) s. What to try next:
$([ "$cluster" = existing ] || printf '  export KUBECONFIG=%s PATH=%s:$PATH' "$KUBECONFIG" "$BIN")
  kubectl describe trainingjob $job                  conditions and events
  kubectl logs -l trainyard.dev/job-name=$job        what the workers said
  kubectl explain trainingjob.spec.parallelism       what every field means
  bin/trainyard-worker run crds/examples/dictionary-tiny.yaml --path /data=corpus --path /checkpoints=/tmp/checkpoints
$([ "$cluster" = existing ] || printf '  make down                                          takes the cluster away')
X
