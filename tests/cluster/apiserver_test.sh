#!/usr/bin/env bash
# Shows that apiserver.sh starts a usable API server, and leaves nothing behind however it ends.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$(readlink -f "$here/../../.tools/kubernetes")/bin:$PATH
export TMPDIR
TMPDIR=$(mktemp -d)             # so that what is left behind can be seen
trap 'rm -rf "$TMPDIR"' EXIT
passed=0
failed=0
check() { # WHAT COMMAND...
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1)); echo "ok    $what"
  else
    failed=$((failed + 1)); echo "FAIL  $what: $output"
  fi
}

# begin [ARGUMENT...]: starts a server, and waits for it. Sets KUBECONFIG, dir, server (its process) and input (the
# descriptor that holds its standard input open).
begin() {
  mkfifo "$TMPDIR/input" "$TMPDIR/output"
  "$here/apiserver.sh" "$@" < "$TMPDIR/input" > "$TMPDIR/output" &
  server=$!
  exec {input}> "$TMPDIR/input"
  read -r line < "$TMPDIR/output"
  export KUBECONFIG=${line#KUBECONFIG=}
  dir=$(dirname "$KUBECONFIG")
  processes=("$(cat "$dir/etcd.pid")" "$(cat "$dir/apiserver.pid")")
  rm "$TMPDIR/input" "$TMPDIR/output"
}
# within COMMAND...: it succeeds before three seconds are over.
within() {
  local n=0
  until "$@"; do
    n=$((n + 1))
    [ $n -lt 30 ] || return 1
    sleep 0.1
  done
}
ended() { for pid in "$server" "${processes[@]}"; do [ ! -e "/proc/$pid/exe" ] || return 1; done; }   # or only to be reaped
gone() { ended && [ -z "$(ls "$TMPDIR")" ]; }
refuses() { # MESSAGE COMMAND...
  local message=$1 output
  shift
  if output=$("$@" 2>&1); then echo "not refused: $output"; return 1; fi
  grep -q "$message" <<< "$output" || { echo "$output"; return 1; }
}
explained() { kubectl explain whistle.spec.pitch --api-version=trainyard.test/v1 | grep -q 'How high'; }
is_admin() { [ "$(kubectl auth can-i '*' '*')" = yes ]; }
as_reader() { # as a service account that may only read
  kubectl --kubeconfig=/dev/null --server="$(kubectl config view -o jsonpath='{.clusters[0].cluster.server}')" \
    --insecure-skip-tls-verify --token="$token" "$@"
}

started=$(date +%s%N)
begin
echo "      ready after $((($(date +%s%N) - started) / 1000000)) ms"
check "the kubeconfig is an administrator's" is_admin
check "it stores objects" kubectl create configmap first
check "it refuses a second one of that name" refuses 'already exists' kubectl create configmap first
check "a pod needs no service account to exist" kubectl run pod --image=nothing.test/image:1
check "a custom resource is served" kubectl apply -f - <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: whistles.trainyard.test}
spec:
  group: trainyard.test
  scope: Namespaced
  names: {kind: Whistle, plural: whistles, singular: whistle}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations: [{rule: "self.pitch < 9", message: too shrill}]
            properties: {pitch: {type: integer, description: How high it sounds.}}
YAML
kubectl wait --for=condition=Established crd/whistles.trainyard.test --timeout=10s > /dev/null
whistle() { kubectl create -f - <<< "{apiVersion: trainyard.test/v1, kind: Whistle, metadata: {generateName: w-}, spec: {pitch: $1}}"; }
check "its rules let good values in" whistle 3
check "its rules keep bad values out" refuses 'too shrill' whistle 12
check "it is explained" within explained
kubectl create serviceaccount reader > /dev/null
kubectl create clusterrole reader --verb=get --resource=configmaps > /dev/null
kubectl create clusterrolebinding reader --clusterrole=reader --serviceaccount=default:reader > /dev/null
token=$(kubectl create token reader)
check "a service account's token reads" within as_reader get configmap first
check "a service account's token does not write" refuses forbidden as_reader delete configmap first
exec {input}>&-
check "all is gone after standard input closed" within gone
wait "$server" || true

begin --port 19876 -- --v=1
check "the port may be chosen" grep -q :19876 "$KUBECONFIG"
kill -TERM "$server"
check "all is gone after TERM" within gone
exec {input}>&-

begin
{ kill -9 "$server"; wait "$server" || true; } 2> /dev/null
check "no server outlives a killed script" within ended
rm -rf "$dir"
exec {input}>&-

begin 2> /dev/null             # it says that a server ended
kill -9 "${processes[1]}"
check "all is gone after the API server died" within gone
exec {input}>&-

echo "apiserver_test: $passed passed, $failed failed"
[ "$failed" = 0 ]
