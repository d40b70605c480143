# shellcheck shell=bash
# What the demo and the end-to-end tests share: images, chart and volumes of the local cluster. Source it from the project's root.
# shellcheck source=tests/cluster/lib.sh
. tests/cluster/lib.sh
CONTROLLER_IMAGE=${CONTROLLER_IMAGE:-trainyard.test/controller:dev}
WORKER_IMAGE=${WORKER_IMAGE:-trainyard.test/worker:dev}
SYSTEM=trainyard-system

# load_images: puts the programs' images into every node that does not hold them yet.
load_images() {
  local machine name
  for machine in $(machines | grep -v '^cp$'); do
    for name in controller worker; do
      if [ "$(cat "$DIR/$machine/loaded-$name" 2> /dev/null)" != "$(cat build/images/fingerprint)" ]; then
        load "$machine" "$PWD/build/images/$name.tar" || return 1
        cp build/images/fingerprint "$DIR/$machine/loaded-$name"
      fi
    done
  done
}

# install_chart [HELM OPTION...]: installs or upgrades, and waits until the controllers are ready. The annotation makes new pods
# when the images changed under the same name.
install_chart() {
  cp crds/trainingjob.yaml helm/files/trainingjob.yaml
  helm upgrade --install trainyard helm --namespace $SYSTEM --create-namespace --wait --timeout ${HELM_TIMEOUT:-60s} \
    --set image.repository="${CONTROLLER_IMAGE%:*}" --set-string image.tag="${CONTROLLER_IMAGE##*:}" \
    --set worker.image.repository="${WORKER_IMAGE%:*}" --set-string worker.image.tag="${WORKER_IMAGE##*:}" \
    --set-string podAnnotations.images="$(cut -c1-12 build/images/fingerprint 2> /dev/null)" "$@"
  kubectl -n $SYSTEM rollout status deployment --timeout 60s
}

# make_volumes: the claims `corpus` and `checkpoints`, on folders of this machine that all nodes see; checkpoints are emptied.
make_volumes() {
  rm -rf "$DIR/volumes/checkpoints"
  mkdir -p "$DIR/volumes"
  mkdir -m 1777 "$DIR/volumes/checkpoints"
  sed "s|/var/lib/trainyard/corpus|$PWD/corpus|; s|/var/lib/trainyard/checkpoints|$DIR/volumes/checkpoints|" \
    crds/examples/dictionary-tiny-volumes.yaml | kubectl apply -f -
}
