#!/usr/bin/env bash
# faults.sh [NAME...]: breaks things in a running cluster of two nodes and prints what was seen, and how many seconds after
# the fault. faults.md has the results. Names, and by default all of them in this order:
#   kubelet kubelet-dead link container oom apiserver etcd containerd power gpu
set -uo pipefail
. "$(dirname "$0")/lib.sh"
k get --raw /readyz > /dev/null || { echo "the cluster is not up: run up.sh first" >&2; exit 1; }

# ---- telling the time
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
start() {
  since=$(milliseconds)
  echo "== $*"
}
mended() {
  since=$(milliseconds)
  echo "   mended:"
}
seen() {
  local ms=$(($(milliseconds) - since))
  printf '%4d.%d s  %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*"
}
await() { # WHAT COMMAND...: up to 60 s
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { seen "NOT SEEN: $what"; return 1; }
    sleep 0.1
  done
  seen "$what"
}

# ---- looking
field() { k get "$1" "$2" -o jsonpath="{$3}" 2> /dev/null; }
is() { [ "$(field "$1" "$2" "$3")" = "$4" ]; }
ready() { is node "$1" '.status.conditions[?(@.type=="Ready")].status' "$2"; }
tainted() { field node "$1" '.spec.taints[*].key}:{.spec.taints[*].effect' | grep -q "unreachable.*$2"; }
leaving() { [ -n "$(field pod "$1" .metadata.deletionTimestamp)" ]; }
gone() { ! k get pod "$1" && k get --raw /readyz; }
replaced() {
  k get pods -l app=replaced --field-selector=status.phase=Running -o jsonpath='{.items[*].spec.nodeName}' | grep -q node-1
}
alive() { on node-2 pgrep -f 'sleep 77777' > /dev/null; }
not_alive() { ! alive; }
says_node_2() { seen "node-2 is $(k get node node-2 --no-headers | awk '{print $2}')"; }
says_restarts() { seen "restarts of patient: $(field pod patient '.status.containerStatuses[0].restartCount')"; }
says_end() { # POD PLACE: how its container ended; PLACE is state or lastState
  local at=".status.containerStatuses[0].$2.terminated"
  seen "$2: $(field pod "$1" "$at.reason} {$at.exitCode")"
}
settle() { # whether a node was ever seen not Ready while things came back
  local bad=0
  for _ in $(seq 60); do
    k get nodes --no-headers 2> /dev/null | grep '^node-' | grep -vq ' Ready ' && bad=$((bad + 1))
    sleep 0.25
  done
  seen "nodes were seen NotReady in $bad of 60 looks; pods: $(k get pods --no-headers | awk '{print $1, $3, $4}' | paste -sd,)"
}

# ---- the pods on node-2: a patient one (default tolerations), a quick one (2 s), and one of a Deployment
sleeper() { # NAME [MORE_OF_THE_SPEC]
  cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  nodeSelector: {kubernetes.io/hostname: node-2}
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "trainyard.test/box:1", imagePullPolicy: Never, args: [-c, exec sleep 77777]}]
  ${2:-}
YAML
}
leave_soon='tolerations: [
  {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2},
  {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}]'
replaced_deployment() {
  cat <<'YAML'
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: replaced}
spec:
  selector: {matchLabels: {app: replaced}}
  template:
    metadata: {labels: {app: replaced}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node-2]}]}
      containers: [{name: c, image: "trainyard.test/box:1", imagePullPolicy: Never, args: [-c, exec sleep 88888]}]
YAML
}
remove() {
  k delete pod patient quick once oom --ignore-not-found --force --grace-period=0
  k delete deployment replaced --ignore-not-found
  k wait --for=delete pod -l app=replaced --timeout=30s
} > /dev/null 2>&1
setup() {
  remove
  { sleeper patient; sleeper quick "$leave_soon"; replaced_deployment; } | k apply -f - > /dev/null
  k wait --for=condition=Ready pod/patient pod/quick --timeout=30s > /dev/null
  k rollout status deployment/replaced --timeout=30s > /dev/null
}

# ---- what follows when a node falls silent, and when it comes back
lost() {
  await "node-2 Ready=Unknown" ready node-2 Unknown
  await "node-2 tainted unreachable:NoExecute" tainted node-2 NoExecute
  await "pod patient Ready=False" is pod patient '.status.conditions[?(@.type=="Ready")].status' False
  seen "its phase is $(field pod patient .status.phase)"
  await "pod quick (tolerates 2 s) has a deletionTimestamp" leaving quick
  await "pod patient (default toleration) has a deletionTimestamp" leaving patient
  await "the Deployment's pod runs on node-1" replaced
  seen "pods of node-2: $(k get pods -o wide --no-headers | awk '/node-2/ {print $1, $3}' | paste -sd,)"
  if alive; then seen "their processes still run on node-2"; fi
}
back() {
  mended
  await "node-2 Ready=True" ready node-2 True
  await "pod patient gone" gone patient
  await "its process gone" not_alive
}

# ---- the faults
kubelet() {
  setup
  start "kubelet killed, restarted by its supervisor"
  crash node-2 kubelet
  sleep 8
  says_node_2
  says_restarts
}
kubelet-dead() {
  setup
  start "kubelet killed and kept dead"
  hold node-2 kubelet
  lost
  release node-2 kubelet
  back
}
link() {
  setup
  start "cable of node-2 pulled"
  cut_link node-2
  lost
  mend_link node-2
  back
}
container() {
  setup
  start "container's process killed (restartPolicy Always)"
  kill_in node-2 patient sleep
  await "restarted once" is pod patient '.status.containerStatuses[0].restartCount' 1
  await "Ready again" is pod patient '.status.containerStatuses[0].ready' true
  says_end patient lastState
  since=$(milliseconds)
  kill_in node-2 patient sleep
  await "killed again: restarted after a back-off" is pod patient '.status.containerStatuses[0].restartCount' 2
  sleeper once 'restartPolicy: Never' | k apply -f - > /dev/null
  k wait --for=condition=Ready pod/once --timeout=20s > /dev/null
  start "the same (restartPolicy Never)"
  kill_in node-2 once sleep
  await "phase Failed" is pod once .status.phase Failed
  says_end once state
}
oom() {
  remove
  start "a container over its memory limit (64Mi)"
  k apply -f - > /dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: oom}
spec:
  nodeName: node-2
  restartPolicy: Never
  containers:
  - {name: c, image: "trainyard.test/box:1", imagePullPolicy: Never, args: [-c, tail /dev/zero], resources: {limits: {memory: 64Mi}}}
YAML
  await "phase Failed" is pod oom .status.phase Failed
  says_end oom state
}
apiserver() {
  setup
  start "API server stopped for 20 s"
  hold cp apiserver
  sleep 20
  release cp apiserver
  mended
  await "it answers" k get --raw /readyz
  settle
  for daemon in kcm scheduler kwok etcd; do
    if grep -q -- "--- $daemon ended" "$DIR/cp/$daemon.log"; then seen "$daemon was restarted"; fi
  done
}
etcd() {
  setup
  k create configmap before --from-literal=a=b > /dev/null
  start "etcd killed -9, restarted by its supervisor"
  crash cp etcd
  await "API answers" k get --raw /readyz --request-timeout=2s
  await "what was written last is there" k get configmap before
  settle
  k delete configmap before > /dev/null
}
containerd() {
  setup
  start "containerd killed, restarted by its supervisor"
  crash node-2 containerd
  sleep 0.5
  if alive; then seen "containers still run"; fi
  await "exec works again" k exec patient -- true
  sleep 8
  says_node_2
  says_restarts
}
power() {
  setup
  start "node-2 loses power"
  power_off node-2
  lost
  power_on node-2
  back
  setup
  start "node-2 reboots at once"
  power_off node-2
  power_on node-2
  await "pod patient restarted" is pod patient '.status.containerStatuses[0].restartCount' 1
  await "Ready" is pod patient '.status.containerStatuses[0].ready' true
  says_node_2
}
gpu() {
  local allocatable='.status.allocatable.nvidia\.com/gpu'
  start "GPUs 3 and 4 of node-2 break"
  echo 3 4 > "$DIR/node-2/gpus.broken"
  await "$((GPUS - 2)) allocatable" is node node-2 "$allocatable" $((GPUS - 2))
  seen "capacity $(field node node-2 '.status.capacity.nvidia\.com/gpu')"
  rm "$DIR/node-2/gpus.broken"
  mended
  await "$GPUS allocatable" is node node-2 "$allocatable" "$GPUS"
}

faults=(kubelet kubelet-dead link container oom apiserver etcd containerd power gpu)
[ $# = 0 ] || faults=("$@")
for fault in "${faults[@]}"; do "$fault"; done
remove
