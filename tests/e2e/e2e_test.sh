#!/usr/bin/env bash
# Trainyard in a real cluster: install, train, refuse bad input, break things, upgrade, uninstall. Starts the local cluster when
# there is none, and takes it down again in that case. e2e_test.sh [NAME...] runs only the tests whose names are given.
# Every job is the same little training under Canonical reduction, so that all of them must end with the same loss, whatever happens.
set -uo pipefail
cd "$(dirname "$0")/../.."
export NODES=${NODES:-3}  # a worker takes more than half a node: one each, and one node to spare
. tests/e2e/lib.sh
passed=0 failed=0
only=" $* "
log=build/e2e.log
mkdir -p build
: > "$log"

# ---- words for the tests

# manifest NAME [SED EXPRESSION...]: the job of these tests, changed by the expressions.
manifest() {
  local name=$1 edits=()
  shift
  for edit in "$@"; do edits+=(-e "$edit"); done
  sed -e "s/NAME/$name/g" "${edits[@]}" tests/e2e/job.yaml
}
start() { manifest "$@" | kubectl apply -f - >> "$log" 2>&1; }
field() { kubectl get trainingjob "$1" -o "jsonpath={.status.$2}"; }
condition() { kubectl get trainingjob "$1" -o "jsonpath={.status.conditions[?(@.type==\"$2\")].$3}"; }
events() { kubectl get events --field-selector "involvedObject.name=$1" -o 'jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}'; }
worker() { kubectl get pods -l "trainyard.dev/job-name=$1,trainyard.dev/worker-index=$2" --sort-by=.metadata.creationTimestamp -o "jsonpath={.items[-1:].$3}"; }
checkpoints() { ls "$DIR/volumes/checkpoints/$1" 2> /dev/null | grep -c '^step-'; }

# within SECONDS COMMAND...: tries until the command succeeds.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || { echo "not seen: $*"; return 1; }
    sleep 0.3
  done
}
is() { [ "$("${@:2}")" = "$1" ] || { echo "is $("${@:2}"), not $1: ${*:2}"; return 1; }; }
has() { "${@:2}" | grep -qF -- "$1"; }
phase_is() { [ "$(field "$1" phase)" = "$2" ]; }
has_checkpoints() { [ "$(checkpoints "$1")" -ge "$2" ]; }
ended() { phase_is "$1" Succeeded || phase_is "$1" Failed; }
# succeeded NAME: waits for it, and compares the loss with that of the undisturbed run.
succeeded() {
  within 180 ended "$1" && is Succeeded field "$1" phase && is "$(cat build/e2e-loss)" field "$1" progress.loss
}
refused() { # MESSAGE SED EXPRESSION...: kubectl apply says MESSAGE
  local message=$1 output
  shift
  output=$(manifest refused "$@" | kubectl apply -f - 2>&1) && { echo "was accepted"; return 1; }
  grep -qF -- "$message" <<< "$output" || { echo "said: $output"; return 1; }
}
gone() { [ -z "$(kubectl get pods -l "trainyard.dev/job-name=$1" -o name)" ]; }

# test_NAME functions run in their order; each has its jobs removed afterwards.
run() {
  local name=$1 from=$SECONDS output
  [ "$only" = "  " ] || [[ $only == *" $name "* ]] || return 0
  if output=$("test_$name" 2>&1); then
    passed=$((passed + 1))
    printf 'ok   %3d s  %s\n' $((SECONDS - from)) "$name"
  else
    failed=$((failed + 1))
    printf 'FAIL %3d s  %s\n%s\n' $((SECONDS - from)) "$name" "$output"
    {
      echo "---- $name"
      kubectl get trainingjobs,pods -o wide
      kubectl describe trainingjobs
      for pod in $(kubectl get pods -o name); do echo "-- $pod"; kubectl logs --tail=40 "$pod"; done
      for pod in $(kubectl -n $SYSTEM get pods -o name); do echo "-- $pod"; kubectl -n $SYSTEM logs --tail=100 "$pod"; done
    } >> "$log" 2>&1
    tail -n 150 "$log"
  fi
  kubectl delete trainingjobs --all --wait > /dev/null 2>&1
  kubectl delete events --all > /dev/null 2>&1
}

# ---- the tests

test_trains_over_two_nodes() {
  start calm && within 180 ended calm && is Succeeded field calm phase || return 1
  field calm progress.loss > build/e2e-loss
  is True condition calm Complete status
  is 0 field calm restarts
  is 2 field calm placement.nodes
  has Succeeded events calm || has Complete events calm
}

test_bad_manifests_are_refused_by_the_api_server() {
  refused 'unknown field "spec.workers.cuont"' 's/^    count: 2/    cuont: 2/' &&
    refused 'spec.parallelism' 's/data: 2/data: 3/' &&
    refused 'spec.training.globalBatchSize' 's/globalBatchSize: 8/globalBatchSize: 9/' &&
    refused 'is not supported yet' 's/microBatchSize: 4/microBatchSize: 4, zero: {stage: 3}/'
}

test_a_killed_rank_is_restarted_inside_its_pod() {
  start killed-rank && within 60 has_checkpoints killed-rank 1 || return 1
  local before node
  before=$(worker killed-rank 1 metadata.uid) node=$(worker killed-rank 1 spec.nodeName)
  kill_in "$node" "$(worker killed-rank 1 metadata.name)" trainyard-rank
  succeeded killed-rank && is "$before" worker killed-rank 1 metadata.uid && is 1 field killed-rank restarts
}

test_a_deleted_worker_pod_is_replaced() {
  start deleted-pod && within 60 has_checkpoints deleted-pod 1 || return 1
  kubectl delete pod "$(worker deleted-pod 0 metadata.name)" --wait=false
  succeeded deleted-pod
}

test_a_killed_leader_is_followed_by_the_other_controller() {
  start killed-leader && within 60 has_checkpoints killed-leader 1 || return 1
  local leader node
  leader=$(kubectl -n $SYSTEM get lease trainyard-controller -o 'jsonpath={.spec.holderIdentity}')
  node=$(kubectl -n $SYSTEM get pod "$leader" -o 'jsonpath={.spec.nodeName}')
  kill_in "$node" "$leader" trainyard-contr $SYSTEM
  succeeded killed-leader && is 0 field killed-leader restarts
}

test_a_node_that_is_cut_off_loses_its_worker_to_another() {
  start cut-node && within 60 has_checkpoints cut-node 1 || return 1
  local node result
  node=$(worker cut-node 1 spec.nodeName)
  cut_link "$node"
  succeeded cut-node
  result=$?
  mend_link "$node"
  within 60 sh -c '[ "$(kubectl get nodes --no-headers | grep -c " Ready ")" = '"$NODES"' ]'
  within 60 kubectl -n $SYSTEM rollout status deployment --timeout 1s > /dev/null
  return $result
}

test_a_missing_corpus_fails_at_once_and_says_what_to_mount() {
  start no-corpus 's#/data/train#/data/nothing#' && within 60 phase_is no-corpus Failed &&
    is User field no-corpus failure.class && has /data/nothing field no-corpus failure.message && is 0 field no-corpus restarts
}

test_checkpoints_that_are_not_shared_fail_the_job() {
  start not-shared 's#persistentVolumeClaim: {claimName: checkpoints}#emptyDir: {}#' && within 60 phase_is not-shared Failed &&
    has 'not shared among workers' field not-shared failure.message
}

test_an_image_that_cannot_be_pulled_is_named_in_a_condition() {
  start no-image 's#name: worker#name: worker\n          image: nowhere.test/none:1#' &&
    within 30 has nowhere.test/none:1 condition no-image Running message
}

test_a_template_that_the_api_server_refuses_is_not_accepted() {
  start bad-template 's/cpu: 1100m/cpu: 100x/' && within 20 is False condition bad-template Accepted status > /dev/null &&
    has "template" condition bad-template Accepted message
}

test_a_request_that_no_node_can_ever_hold_says_so() {
  start too-big 's/cpu: 1100m/cpu: "5000"/' && within 20 has cpu condition too-big Placed message && is Pending field too-big phase
}

test_suspend_checkpoints_first_and_resume_goes_on() {
  start pause && within 60 has_checkpoints pause 1 || return 1
  kubectl patch trainingjob pause --type merge -p '{"spec":{"suspend":true}}'
  within 60 phase_is pause Suspended && within 30 gone pause || return 1
  kubectl patch trainingjob pause --type merge -p '{"spec":{"suspend":false}}'
  succeeded pause
}

test_a_corrupt_checkpoint_is_passed_over() {
  start corrupt && within 60 has_checkpoints corrupt 2 || return 1
  kubectl patch trainingjob corrupt --type merge -p '{"spec":{"suspend":true}}'
  within 60 phase_is corrupt Suspended || return 1
  local newest file
  newest=$(ls -d "$DIR"/volumes/checkpoints/corrupt/step-* | sort | tail -n 1)
  file=$(ls "$newest"/*.safetensors | head -n 1)
  printf 'xxxx' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 100)) conv=notrunc status=none
  kubectl patch trainingjob corrupt --type merge -p '{"spec":{"suspend":false}}'
  succeeded corrupt && has CheckpointCorrupt events corrupt
}

test_an_agent_that_cannot_be_reached_gives_a_condition() {
  start hidden 's/steps: [0-9]*/steps: 100000/' && within 60 has_checkpoints hidden 1 || return 1
  local node result
  node=$(worker hidden 1 spec.nodeName)
  hide "$node" "$(worker hidden 1 status.podIP)"
  within 60 sh -c "kubectl get trainingjob hidden -o jsonpath='{.status.conditions}' | grep -q NetworkPolicy"
  result=$?
  show "$node"
  return $result
}

test_a_deleted_job_takes_its_pods_along() {
  start deleted && within 60 has_checkpoints deleted 1 || return 1
  kubectl delete trainingjob deleted --wait && within 30 gone deleted
}

test_an_upgrade_may_add_a_field_to_the_crd() {
  local chart=build/e2e-chart
  rm -rf $chart && cp -r helm $chart
  sed -i 's/^              suspend:$/              addedByAnUpgrade: {type: string, description: new, maxLength: 9}\n              suspend:/' $chart/files/trainingjob.yaml
  grep -q addedByAnUpgrade $chart/files/trainingjob.yaml || { echo "the chart's CRD has no suspend at the expected place"; return 1; }
  helm upgrade trainyard $chart --namespace $SYSTEM --reuse-values --wait --timeout 60s &&
    within 20 has addedByAnUpgrade kubectl explain trainingjob.spec && install_chart
}

test_a_namespace_goes_away_without_the_controller() {
  kubectl -n $SYSTEM scale deployment --all --replicas 0
  kubectl create namespace leaving && manifest stays | kubectl -n leaving apply -f - && kubectl delete namespace leaving --timeout 60s
  local result=$?
  install_chart && return $result
}

test_uninstall_keeps_the_jobs() {
  start kept 's/suspend: false/suspend: true/' && helm uninstall trainyard --namespace $SYSTEM --wait --timeout 60s &&
    kubectl get trainingjob kept
}

# ---- the run

started_here=
if [ ! -e "$DIR" ]; then
  started_here=yes
  trap 'tests/cluster/down.sh' EXIT
fi
{ .ci/corpus && tests/cluster/up.sh && load_images && make_volumes && install_chart; } >> "$log" 2>&1 ||
  { cat "$log"; echo "0 passed, 1 failed"; exit 1; }
for name in $(declare -F | sed -n 's/^declare -f test_//p' | while read -r test; do
  printf '%s %s\n' "$(grep -n "^test_$test()" "$0" | cut -d: -f1)" "$test"; done | sort -n | cut -d' ' -f2); do
  run "$name"
done
printf '\n%d passed, %d failed\n' $passed $failed
[ $failed = 0 ] && [ $passed -gt 0 ]
