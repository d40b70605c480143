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
        load "$machine" "$PWD/build/images/$name.tar" && cp build/images/fingerprint "$DIR/$machine/loaded-$name" || return 1
      fi
    done
  done
}

# install_chart [HELM OPTION...]: installs or upgrades, and waits until the controllers are ready. install_into NAMESPACE [HELM OPTION...]: the same in
# a namespace that is there. The annotation makes new pods when the images changed under the same name.
install_chart() { install_into $SYSTEM --create-namespace "$@"; }
install_into() {
  helm upgrade --install trainyard helm --namespace "$1" --wait --timeout "${HELM_TIMEOUT:-60s}" \
    --set image.repository="${CONTROLLER_IMAGE%:*}" --set-string image.tag="${CONTROLLER_IMAGE##*:}" \
    --set worker.image.repository="${WORKER_IMAGE%:*}" --set-string worker.image.tag="${WORKER_IMAGE##*:}" \
    --set-string podAnnotations.images="$(cut -c1-12 build/images/fingerprint 2> /dev/null)" "${@:2}" &&
    kubectl -n "$1" rollout status deployment --timeout 60s
}

# make_volumes [NAMESPACE]: the claims `corpus` and `checkpoints`, on folders of this machine that all nodes see. They belong to the cluster and
# not to this checkout, so that another one goes on with them.
make_volumes() {
  local namespace=${1:-default} folder
  folder=$DIR/volumes/$namespace
  .ci/corpus "$DIR/volumes/corpus" && mkdir -p "$folder/checkpoints" && chmod 1777 "$folder/checkpoints" || return 1
  sed "s|/var/lib/trainyard/corpus|$DIR/volumes/corpus|; s|/var/lib/trainyard/checkpoints|$folder/checkpoints|
       s|namespace: default|namespace: $namespace|; s|name: dictionary-tiny-|name: $namespace-|" \
    crds/examples/dictionary-tiny-volumes.yaml | kubectl apply -f -
}

# learnt_english JOB: whether its last validation loss is at most 0.8 of the corpus' unigram entropy, which is what knowing how often
# each byte occurs is worth; says both.
learnt_english() {
  python3 - "$(kubectl get trainingjob "$1" -o 'jsonpath={.status.progress.validationLoss}')" corpus/train/* <<'PY'
import math, pathlib, sys
text = b"".join(pathlib.Path(path).read_bytes() for path in sys.argv[2:])
shares = [text.count(byte) / len(text) for byte in range(256)]
entropy = -sum(share * math.log(share) for share in shares if share)
loss = float(sys.argv[1])
print(f"validation loss {loss:.3f} nats a byte; knowing the letters' frequencies alone gives {entropy:.3f}, of which it may be 0.8 at most: {0.8 * entropy:.3f}")
sys.exit(loss > 0.8 * entropy)
PY
}
