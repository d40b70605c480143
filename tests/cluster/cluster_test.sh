#!/usr/bin/env bash
# Checks the cluster end to end, in a namespace of its own. Where none is up, it starts one, and takes it down again.
# With --fakes, also 256 pods on 32 simulated nodes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
fakes=
for argument in "$@"; do
  case $argument in
    --fakes) fakes=yes ;;
    *) echo "usage: cluster_test.sh [--fakes]" >&2; exit 2 ;;
  esac
done

finish() {
  k delete namespace cluster-test --ignore-not-found > /dev/null
  rm -f "$DIR/cluster-test.kubeconfig"
}
if [ -e "$DIR" ]; then
  "$HERE/up.sh" > /dev/null             # says so if it is not well
else
  "$HERE/up.sh"
  finish() { "$HERE/down.sh"; }
fi
trap finish EXIT
k create namespace cluster-test > /dev/null
# From here on kubectl and helm mean that namespace.
KUBECONFIG=$DIR/cluster-test.kubeconfig
k --kubeconfig "$DIR/admin.kubeconfig" config view --raw > "$KUBECONFIG"
k config set-context --current --namespace=cluster-test > /dev/null

passed=0
failed=0
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
check() { # WHAT COMMAND...: tried for up to 30 s
  local what=$1 started output
  shift
  started=$(milliseconds)
  until output=$("$@" 2>&1); do
    if [ $(($(milliseconds) - started)) -gt 30000 ]; then
      failed=$((failed + 1))
      printf 'FAIL  %s\n%s\n' "$what" "$output" | head -20
      return
    fi
    sleep 0.1
  done
  passed=$((passed + 1))
  printf 'ok %6d ms  %s\n' $(($(milliseconds) - started)) "$what"
}
within_pod() { # POD COMMAND...
  local pod=$1
  shift
  k exec "$pod" -- "$@"
}
get() { k get "$1" "$2" -o jsonpath="{$3}"; }
is() { [ "$(get "$1" "$2" "$3")" = "$4" ]; }
fetch() { curl -sfm2 "$1"; }

# ---- pods, Services and names
# `view` is filled in by a controller, a moment after the cluster has come up.
k create rolebinding view --clusterrole=view --serviceaccount=cluster-test:default > /dev/null
k apply -f "$HERE/testdata/web.yaml" > /dev/null
check "two pods on two nodes" k rollout status statefulset/web --timeout=25s
ip0=$(get pod web-0 .status.podIP)
ip1=$(get pod web-1 .status.podIP)
service_ip=$(get service web .spec.clusterIP)
apart() { [ "$(get pod web-0 .spec.nodeName)" != "$(get pod web-1 .spec.nodeName)" ]; }
reaches_both() { # POD ADDRESS
  within_pod "$1" sh -c "for i in $(seq -s' ' 20); do curl -sfm2 $2; done" | sort -u | tr '\n' ' ' | grep -q 'web-0 web-1'
}
has_both_addresses() {
  [ "$(within_pod web-0 nslookup web-pods.cluster-test.svc.cluster.local | grep -c "Address: $PODS")" = 2 ]
}
unknown_fails_at_once() {
  local status=0
  timeout 3 kubectl exec web-0 -- nslookup example.invalid || status=$?
  [ $status = 1 ]
}
forwards() {
  local forwarder status=0
  kubectl port-forward pod/web-1 18080:8080 > /dev/null 2>&1 &
  forwarder=$!
  sleep 0.5
  fetch http://127.0.0.1:18080/ | grep -q web-1 || status=1
  kill $forwarder
  wait $forwarder || true
  return $status
}
copies() {
  k cp /etc/hostname web-0:/tmp/hostname
  within_pod web-0 cat /tmp/hostname | diff - /etc/hostname
}
logs_say() { k logs "$1" | grep -q "$2"; }
proxies() { k get --raw /api/v1/namespaces/cluster-test/services/web:http/proxy/ | grep -q web-; }
no_way_out() { [ -z "$(on node-1 ip route show default)" ]; }
check "they are on different nodes" apart
check "pod to pod across nodes" within_pod web-0 curl -sfm2 "http://$ip1:8080/"
check "ClusterIP from a pod" within_pod web-0 curl -sfm2 "http://$service_ip/"
check "ClusterIP by name reaches both pods" reaches_both web-0 http://web/
check "a pod reaches itself through its Service" reaches_both web-1 http://web.cluster-test.svc.cluster.local/
check "a headless name has both addresses" has_both_addresses
check "a pod's stable name from the other node" within_pod web-1 curl -sfm2 http://web-0.web-pods:8080/
check "unknown names fail at once" unknown_fails_at_once
check "host to pod" fetch "http://$ip0:8080/"
check "host to ClusterIP" fetch "http://$service_ip/"
check "a node has no way out of the cluster" no_way_out
check "logs" logs_say web-0 serving
check "exec" within_pod web-1 hostname
check "cp" copies
check "port-forward" forwards
check "the API server proxies to a Service" proxies
check "a pod asks the API server by name, with its token" logs_say asker web-1

# ---- a pod's network, cut
node1=$(get pod web-1 .spec.nodeName)
hide "$node1" "$ip1"
hidden() { ! within_pod web-0 curl -sfm1 "http://$ip1:8080/"; }
check "a hidden pod is not reached" hidden
show "$node1"
check "a shown one is" within_pod web-0 curl -sfm1 "http://$ip1:8080/"

# ---- imaginary GPUs
gpu_pod() { # NAME GPUS
  k apply -f - > /dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: trainyard.test/box:1
    imagePullPolicy: Never
    args: [-c, 'env | grep NVIDIA; exec sleep 1000']
    resources: {limits: {nvidia.com/gpu: $2}}
YAML
}
if [ "$GPUS" -ge 3 ]; then
  gpu_pod gpu 3
  check "three of $GPUS GPUs, with their ids in the environment" logs_say gpu 'NVIDIA_VISIBLE_DEVICES=.,.,.$'
  gpu_pod gpu-over $((GPUS - 2))
  check "the kubelet refuses more than are free" is pod gpu-over .status.reason UnexpectedAdmissionError
fi

# ---- helm
greeting() { k logs deployment/hello | grep -qx "$1"; }
check "helm install, pods ready" helm upgrade --install hello "$HERE/testdata/chart" --wait --timeout 25s
check "helm upgrade" helm upgrade hello "$HERE/testdata/chart" --set greeting=again --wait --timeout 25s
check "its pod says the new value" greeting again
check "helm uninstall" helm uninstall hello --wait

# ---- simulated nodes
fakes_ready() { [ "$(k get nodes -l type=kwok --no-headers 2> /dev/null | grep -c ' Ready ')" = 32 ]; }
fakes_running() { [ "$(k get pods -l fake -o name --field-selector=status.phase=Running | wc -l)" = 256 ]; }
fake_pods() {
  for i in $(seq 0 255); do
    cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: fake-$i, labels: {fake: ""}}
spec:
  terminationGracePeriodSeconds: 0
  nodeSelector: {type: kwok}
  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]
  containers: [{name: c, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]
YAML
  done
}
create_fake_pods() { fake_pods | k create -f - > /dev/null; }
if [ -n "$fakes" ]; then
  "$HERE/fakes.sh" 32 8
  check "32 simulated nodes Ready" fakes_ready
  check "256 pods made" create_fake_pods
  check "all Running on their 256 GPUs, after the last was made" fakes_running
  k delete pods -l fake --now --wait=false > /dev/null
  k delete nodes -l type=kwok > /dev/null
fi

echo "cluster_test: $passed passed, $failed failed"
[ "$failed" = 0 ]
