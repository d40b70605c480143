# shellcheck shell=bash
# The words in which e2e_test.sh writes its tests: jobs, what the API server says of them, and waiting. Source it after lib.sh.

# A worker of these tests asks for more than half of a node's processors, so that there is one a node.
HALF_A_NODE=$(($(nproc) * 500 + 100))m

# manifest NAME [SED EXPRESSION...]: the job of these tests, changed by the expressions.
manifest() {
  local name=$1 edit edits=()
  shift
  for edit in "$@"; do edits+=(-e "$edit"); done
  sed -e "s/NAME/$name/g; s/HALF_A_NODE/$HALF_A_NODE/" "${edits[@]}" tests/e2e/job.yaml
}
start() { manifest "$@" | kubectl apply -f - >> "$log" 2>&1; }
# start_ddp: the example of any image, with PyTorch, Python and their libraries as folders of this machine in the place of an image.
start_ddp() {
  local torch mount=""
  torch=$(readlink -f .tools/torch) || return 1
  local volume="" name=0 folder
  for folder in "$torch" /usr/bin /usr/lib /usr/local/lib /lib64 /lib/x86_64-linux-gnu; do
    name=$((name + 1))
    mount+="          - {name: machine-$name, mountPath: $folder, readOnly: true}\n"
    volume+="        - {name: machine-$name, hostPath: {path: $folder}}\n"
  done
  # The shell's image has no users, and PyTorch asks for one's name.
  sed -e "s|image: .*|image: trainyard.test/box:1|; s|command: .*|command: [$torch/bin/torchrun, /code/train.py]|" \
    -e 's|^          resources:|          env: [{name: USER, value: root}, {name: STEPS, value: "2000"}]\n&|' \
    -e "s|cpu: 500m, memory: 1Gi|cpu: $HALF_A_NODE, memory: 1Gi|; s|\(^ *\)volumeMounts:|&\n${mount%\\n}|; s|^        volumes:|&\n${volume%\\n}|" \
    crds/examples/custom-torchrun-ddp.yaml | kubectl apply -f - >> "$log" 2>&1
}
# program NAME SCRIPT [SED EXPRESSION...]: a job of the engine Custom, one small worker that runs the shell's script (without double quotes),
# changed by the expressions. LIVES is one that runs until it is told to end, and then ends at once.
LIVES="trap 'exit 0' TERM; sleep 1000 & wait"
program() {
  local name=$1 script=$2 edit edits=()
  shift 2
  for edit in "$@"; do edits+=(-e "$edit"); done
  sed -e '' "${edits[@]}" <<YAML | kubectl apply -f - >> "$log" 2>&1
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {name: $name}
spec:
  engine: Custom
  workers:
    count: 1
    template:
      spec:
        containers:
        - name: worker
          image: trainyard.test/box:1
          command: [/bin/sh, -c, "$script"]
          resources: {requests: {cpu: 200m, memory: 16Mi}}
YAML
}
of_queue() { echo "s/^spec:/spec:\n  queue: $1/"; }  # an expression for manifest and program
# queue NAME CPU [MORE OF THE SPEC]: a TrainingQueue with so much quota.
queue() {
  kubectl apply -f - <<YAML
apiVersion: trainyard.dev/v1alpha1
kind: TrainingQueue
metadata: {name: $1}
spec: {flavors: [{resources: [{name: cpu, nominal: $2}]}]${3:+, $3}}
YAML
}
queue_field() { kubectl get trainingqueue "$1" -o "jsonpath={.status.$2}"; }

# new_namespace NAME [LABEL=VALUE...]: with volumes of its own. in_namespace NAME COMMAND...: with that namespace as kubectl's default.
# remove_namespaces: all that were made so.
new_namespace() { kubectl create namespace "$1" && { [ $# = 1 ] || kubectl label namespace "$@"; } && make_volumes "$1"; }
in_namespace() {
  local config=build/e2e-$1.kubeconfig
  cp "$KUBECONFIG" "$config" && KUBECONFIG=$config kubectl config set-context --current --namespace "$1" > /dev/null &&
    KUBECONFIG=$config "${@:2}"
}
remove_namespaces() {
  local name
  for name in $(kubectl get persistentvolumes -o 'jsonpath={.items[*].spec.claimRef.namespace}' | xargs -n 1 | sort -u); do
    [ "$name" != default ] || continue
    kubectl delete namespace "$name" --ignore-not-found --wait=false
    kubectl delete persistentvolume "$name-corpus" "$name-checkpoints" --wait=false
  done
}

suspend() { kubectl patch trainingjob "$1" --type merge -p "{\"spec\":{\"suspend\":$2}}"; }

field() { kubectl get trainingjob "$1" -o "jsonpath={.status.$2}"; }
condition() { kubectl get trainingjob "$1" -o "jsonpath={.status.conditions[?(@.type==\"$2\")].$3}"; }
events() { kubectl get events --field-selector "involvedObject.name=$1" -o 'jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}'; }
worker() { # NAME INDEX FIELD: of the newest pod with that index
  kubectl get pods -l "trainyard.dev/job-name=$1,trainyard.dev/worker-index=$2" --sort-by=.metadata.creationTimestamp \
    -o "jsonpath={.items[-1:].$3}"
}
leader() { kubectl -n "$SYSTEM" get lease trainyard-controller -o 'jsonpath={.spec.holderIdentity}'; }

# within SECONDS COMMAND...: tries until the command succeeds; says what the last try said where it never does.
within() {
  local deadline=$((SECONDS + $1)) output
  shift
  until output=$("$@" 2>&1); do
    [ $SECONDS -lt $deadline ] || { echo "not seen: $*: $output"; return 1; }
    sleep 0.3
  done
}
# Each of these wants the command to succeed, lest an API server that does not answer makes them true.
# is WANTED COMMAND...: it prints just that. is_not UNWANTED COMMAND...: it prints something else, and not nothing.
# has PART COMMAND...: its output contains that.
is() {
  local found
  found=$("${@:2}") || { echo "failed: ${*:2}"; return 1; }
  [ "$found" = "$1" ] || { echo "is $found, not $1: ${*:2}"; return 1; }
}
is_not() {
  local found
  found=$("${@:2}") || { echo "failed: ${*:2}"; return 1; }
  [ -n "$found" ] || { echo "is nothing: ${*:2}"; return 1; }
  [ "$found" != "$1" ] || { echo "is $found: ${*:2}"; return 1; }
}
has() {
  local found
  found=$("${@:2}") || { echo "failed: ${*:2}"; return 1; }
  [[ $found == *"$1"* ]] || { echo "has no '$1', but: $found (${*:2})"; return 1; }
}

phase_is() { is "$2" field "$1" phase; }
ended() { phase_is "$1" Succeeded || phase_is "$1" Failed; }
checkpoints() { find "$DIR/volumes/default/checkpoints/$1" -maxdepth 1 -name 'step-*' 2> /dev/null | wc -l; }
has_checkpoints() { [ "$(checkpoints "$1")" -ge "$2" ]; }
# logs_stay NAME PHASE PART: each pod of the ended job comes to that phase, and its log, with that part, is still there.
logs_stay() {
  local pods="-l trainyard.dev/job-name=$1"
  within 30 is "$2" sh -c "kubectl get pods $pods -o 'jsonpath={range .items[*]}{.status.phase}{\"\\n\"}{end}' | sort -u" &&
    has "$3" kubectl logs $pods --tail=-1
}
no_pods_of() { is "" kubectl get pods -l "trainyard.dev/job-name=$1" -o name; }
no_workers() { is "" kubectl get pods -l trainyard.dev/job-name -o name; }
all_nodes_ready() { is "$NODES" sh -c 'kubectl get nodes --no-headers | grep -c " Ready "'; }

# succeeded NAME: waits for it, and compares the loss with that of the undisturbed run.
succeeded() {
  local loss
  within 180 ended "$1" && phase_is "$1" Succeeded && loss=$(undisturbed_loss) && is "$loss" field "$1" progress.loss
}
undisturbed_loss() {
  [ -s build/e2e-loss ] || train_undisturbed >&2 || return 1
  cat build/e2e-loss
}
train_undisturbed() { # leaves the job `calm` and its last loss
  start calm && within 180 ended calm && phase_is calm Succeeded && field calm progress.loss > build/e2e-loss && [ -s build/e2e-loss ]
}

# fails_with MESSAGE COMMAND...: the command fails, and its output contains that.
fails_with() {
  local output
  output=$("${@:2}" 2>&1) && { echo "succeeded: ${*:2}"; return 1; }
  [[ $output == *"$1"* ]] || { echo "said no '$1', but: $output (${*:2})"; return 1; }
}
# refused MESSAGE SED EXPRESSION...: kubectl apply refuses that manifest and says MESSAGE.
refused() {
  fails_with "$1" kubectl apply -f <(manifest refused "${@:2}")
}
