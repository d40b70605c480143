#!/usr/bin/env bash
# Trainyard in a real cluster: install, train, refuse bad input, break things, upgrade, uninstall. Starts the local cluster when
# there is none, and takes it down again in that case. e2e_test.sh [NAME...] runs only the tests whose names are given.
# Nearly every job is the same little training under Canonical reduction, so that all of them must end with the same loss, whatever
# happens to them.
set -uo pipefail
self=$(realpath "${BASH_SOURCE[0]}")
cd "$(dirname "$self")/../.."
export NODES=3  # a worker takes more than half a node: one each, and one node to spare
. tests/e2e/lib.sh
[ "$NODES" -ge 3 ] || { echo "these tests need 3 nodes, and the cluster that is up has $NODES: run make down first" >&2; exit 1; }
. tests/e2e/words.sh
. tests/e2e/kubectl.sh
. tests/e2e/busy_cluster.sh
passed=0 failed=0
only=" $* "
log=build/e2e.log
mkdir -p build
rm -f build/e2e-loss
: > "$log"

# test_NAME functions run in their order; each has what it made removed afterwards.
run() {
  local name=$1 from=$SECONDS output
  [ "$only" = "  " ] || [[ $only == *" $name "* ]] || return 0
  if output=$("test_$name" 2>&1); then
    passed=$((passed + 1))
    printf 'ok   %3d s  %s\n' $((SECONDS - from)) "$name"
  else
    failed=$((failed + 1))
    printf 'FAIL %3d s  %s\n%s\n' $((SECONDS - from)) "$name" "$output"
    evidence "$name" >> "$log" 2>&1
    tail -n 150 "$log"
  fi
  {
    kubectl delete trainingjobs --all --all-namespaces --wait
    kubectl delete trainingqueues --all --wait
    remove_namespaces
    kubectl delete pods -l trainyard.dev/job-name --grace-period=1 --wait=false  # a rank whose peer was cut off waits for it long
    within 150 no_workers  # else the next job's limits count the time that these hold their nodes
    kubectl delete events --all
    rm -rf "$DIR"/volumes/default/checkpoints/*
  } >> "$log" 2>&1
}
evidence() {
  local pod
  echo "---- $1"
  kubectl get trainingqueues,nodes
  kubectl get trainingjobs,pods --all-namespaces -o wide
  kubectl describe trainingjobs --all-namespaces
  for pod in $(kubectl get pods -o name); do echo "-- $pod"; kubectl logs --tail=40 "$pod"; done
  for pod in $(kubectl -n $SYSTEM get pods -o name); do echo "-- $pod"; kubectl -n $SYSTEM logs --tail=60 "$pod"; done
}

# ---- a calm day

test_trains_over_two_nodes() {
  train_undisturbed && is True condition calm Complete status && is 0 field calm restarts && is 2 field calm placement.nodes &&
    within 10 has Succeeded events calm
}

test_kube_scheduler_binds_a_pipeline() {
  # A stage a pod. Canonical adds the two micro-batches of one data rank as it adds those of two, so the loss must be the same.
  start bound 's/^  parallelism: {data: 2/  placement: {binding: Scheduler}\n  parallelism: {pipeline: 2, data: 1/' &&
    succeeded bound && is 2 field bound placement.nodes && is 0 field bound restarts &&
    has 'Scheduled: Successfully assigned' events "$(worker bound 0 metadata.name)" &&
    has 'Scheduled: Successfully assigned' events "$(worker bound 1 metadata.name)"
}

test_the_example_learns_english() {
  kubectl apply -f crds/examples/dictionary-tiny.yaml && within 180 ended dictionary-tiny && phase_is dictionary-tiny Succeeded &&
    learnt_english dictionary-tiny && logs_stay dictionary-tiny Succeeded '"step":500'
}

test_suspend_checkpoints_first_and_resume_goes_on() {
  # No checkpoint is due before the end, so one that is there is the suspension's own.
  start pause 's/everySteps: 50/everySteps: 100000/' && within 60 phase_is pause Running && is 0 checkpoints pause &&
    suspend pause true && within 60 phase_is pause Suspended && within 30 no_pods_of pause && is 1 checkpoints pause || return 1
  local step
  step=$(field pause checkpoint.step)
  [ "${step:-0}" -gt 0 ] && [ "$step" -lt 600 ] || { echo "the checkpoint is of step '$step'"; return 1; }
  suspend pause false && succeeded pause && has "from step $step," events pause
}

test_a_job_of_higher_priority_stops_another_at_a_checkpoint_which_then_goes_on() {
  # Two nodes are held, and one is free: the urgent one needs two. No checkpoint is due before the end, which is far away: for room that
  # there will be soon nobody is stopped.
  kubectl create priorityclass urgent --value 1000
  start patient 's/steps: [0-9]*/steps: 100000/' 's/everySteps: 50/everySteps: 100000/' && within 60 phase_is patient Running &&
    start urgent 's/^spec:/spec:\n  priorityClassName: urgent/' && within 60 phase_is patient Pending &&
    within 30 is 1 field patient preemptions && is 1 checkpoints patient && is 1 field patient queue.position || return 1
  local step
  step=$(field patient checkpoint.step)
  within 120 phase_is urgent Succeeded && is 0 field urgent preemptions && within 60 phase_is patient Running && is 0 field patient restarts &&
    has "from step $step," events patient && has 'make room for job default/urgent of priority 1000' events patient
}

test_a_deleted_job_takes_its_pods_along() {
  start deleted && within 60 has_checkpoints deleted 1 && kubectl delete trainingjob deleted --wait && within 30 no_pods_of deleted
}

test_any_image_trains_with_torchrun_and_starts_anew_when_a_process_dies() {
  # PyTorch comes from this machine, as its nodes do: the image is a shell's, and runs as root.
  start_ddp && within 90 phase_is custom-torchrun-ddp Running && is 2 field custom-torchrun-ddp workers.ready &&
    within 120 test -s "$DIR/volumes/default/checkpoints/custom-torchrun-ddp.pt" || return 1
  local node
  node=$(worker custom-torchrun-ddp 1 spec.nodeName) &&
    kill_in "$node" "$(worker custom-torchrun-ddp 1 metadata.name)" python3.11 &&
    within 60 is 1 field custom-torchrun-ddp restarts && is WorkerExited field custom-torchrun-ddp failure.reason &&
    within 240 ended custom-torchrun-ddp && phase_is custom-torchrun-ddp Succeeded && is 1 field custom-torchrun-ddp restarts &&
    has 'rank 3 is done with loss' kubectl logs "$(worker custom-torchrun-ddp 1 metadata.name)" &&
    is_not 'rank 0 of 4 begins at step 0' sh -c "kubectl logs $(worker custom-torchrun-ddp 0 metadata.name) | grep 'rank 0 of 4'" &&
    is "" kubectl get secrets -l trainyard.dev/job-name=custom-torchrun-ddp -o name
}

# ---- what users get wrong

test_bad_manifests_are_refused_by_the_api_server() {
  refused 'unknown field "spec.workers.cuont"' 's/^    count: 2/    cuont: 2/' &&
    refused 'spec.parallelism' 's/data: 2/data: 3/' &&
    refused 'spec.training.globalBatchSize' 's/globalBatchSize: 8/globalBatchSize: 9/' &&
    refused 'is not supported yet' 's/microBatchSize: 4/microBatchSize: 4, context: 2/'
}

test_a_missing_corpus_fails_at_once_and_says_what_to_mount() {
  start no-corpus 's#/data/train#/data/nothing#' && within 60 phase_is no-corpus Failed &&
    is User field no-corpus failure.class && has /data/nothing field no-corpus failure.message && is 0 field no-corpus restarts &&
    logs_stay no-corpus Failed /data/nothing
}

test_a_missing_secret_is_hinted_at_while_its_pod_waits() {
  start no-secret 's#persistentVolumeClaim: {claimName: corpus, readOnly: true}#secret: {secretName: nosuch}#' &&
    within 45 has 'events --for pod/no-secret-0-1` says for what: a Secret' condition no-secret Running message
}

test_checkpoints_that_are_not_shared_fail_the_job() {
  start not-shared 's#persistentVolumeClaim: {claimName: checkpoints}#emptyDir: {}#' && within 60 phase_is not-shared Failed &&
    has 'not shared among workers' field not-shared failure.message
}

test_a_full_checkpoint_volume_is_told_while_training_goes_on() {
  start full 's#persistentVolumeClaim: {claimName: checkpoints}#emptyDir: {medium: Memory, sizeLimit: 2Mi}#' \
    's/count: 2/count: 1/' 's/data: 2/data: 1/' && within 60 has 'No space left on device' events full &&
    phase_is full Running && within 90 phase_is full Failed && is CheckpointFailed condition full Failed reason &&
    has 'make room at checkpoint.path' field full failure.message
}

test_an_image_that_cannot_be_pulled_is_named_in_a_condition() {
  start no-image 's#name: worker#name: worker\n          image: nowhere.test/none:1#' &&
    within 30 has nowhere.test/none:1 condition no-image Running message
}

test_a_template_that_the_api_server_refuses_is_not_accepted() {
  start bad-template 's/mountPath: \/checkpoints/mountPath: ""/' && within 20 is False condition bad-template Accepted status &&
    has 'volumeMounts[1].mountPath: Required value' condition bad-template Accepted message && no_pods_of bad-template
}

test_a_request_that_no_node_can_ever_hold_says_so() {
  start too-big "s/cpu: $HALF_A_NODE/cpu: \"5000\"/" && within 20 has cpu condition too-big Placed message && phase_is too-big Pending
}

# ---- what breaks

test_a_killed_rank_is_restarted_inside_its_pod() {
  start killed-rank && within 60 has_checkpoints killed-rank 1 || return 1
  local before node
  before=$(worker killed-rank 1 metadata.uid) && node=$(worker killed-rank 1 spec.nodeName) &&
    kill_in "$node" "$(worker killed-rank 1 metadata.name)" trainyard-rank &&
    within 60 is 1 field killed-rank restarts && is "$before" worker killed-rank 1 metadata.uid && succeeded killed-rank &&
    is 1 field killed-rank restarts
}

test_a_rank_that_hangs_is_named_in_the_status_and_its_gang_goes_on() {
  start hung 's/^  checkpoint:/  lifecycle: {hangTimeoutSeconds: 10}\n  checkpoint:/' && within 60 has_checkpoints hung 1 || return 1
  local node
  node=$(worker hung 1 spec.nodeName) && kill_in "$node" "$(worker hung 1 metadata.name)" trainyard-rank default STOP &&
    within 60 is 1 field hung uncountedRestarts && is RankHung field hung failure.reason && is 1 field hung failure.rank &&
    is "$node" field hung failure.node && is Infrastructure field hung failure.class &&
    has "rank 1 has not answered for" field hung failure.message && has "rank 0 waits for it in" field hung failure.message &&
    succeeded hung && is 0 field hung restarts
}

test_a_deleted_worker_pod_is_replaced() {
  start deleted-pod && within 60 has_checkpoints deleted-pod 1 || return 1
  local before
  before=$(worker deleted-pod 0 metadata.uid) && kubectl delete pod "$(worker deleted-pod 0 metadata.name)" --wait=false &&
    within 60 is_not "$before" worker deleted-pod 0 metadata.uid && succeeded deleted-pod
}

test_a_killed_leader_is_followed_by_the_other_controller() {
  local before node result
  before=$(leader) && node=$(kubectl -n $SYSTEM get pod "$before" -o 'jsonpath={.spec.nodeName}') &&
    kubectl cordon "$node" || return 1  # no worker comes there, so that the node may fall silent
  start killed-leader && within 60 has_checkpoints killed-leader 1 && kill_leader "$before" "$node" &&
    within 60 is_not "$before" leader && succeeded killed-leader && is 0 field killed-leader restarts
  result=$?
  release "$node" kubelet
  kubectl uncordon "$node" && within 60 all_nodes_ready && kubectl -n $SYSTEM rollout status deployment --timeout 60s && return $result
}
# kill_leader POD NODE: by SIGKILL, so that nobody gives the lease up and it has to expire. The kubelet is stopped before: it would
# start the container again at once, and that would find its own lease and go on.
kill_leader() {
  hold "$2" kubelet && kill_in "$2" "$1" trainyard-controller $SYSTEM || return 1
  sleep 3  # a lease that was given up has another holder after 2 s, one that has to expire after 7
  is "$1" leader
}

test_a_node_that_is_cut_off_loses_its_worker_to_another() {
  start cut-node && within 60 has_checkpoints cut-node 1 || return 1
  local node result
  node=$(worker cut-node 1 spec.nodeName) && cut_link "$node" || return 1
  within 90 is_not "$node" worker cut-node 1 spec.nodeName && succeeded cut-node
  result=$?
  mend_link "$node"
  within 60 all_nodes_ready && kubectl -n $SYSTEM rollout status deployment --timeout 60s && return $result
}

test_an_api_server_that_is_away_for_20_s_stops_no_training() {
  # All checkpoints are kept, so that their number tells how far it is.
  start outage 's/everySteps: 50, keep: 3/everySteps: 10, keep: 100/' && within 60 has_checkpoints outage 1 || return 1
  local before after controller since message
  controller=$(leader) && since=$(date -u +%FT%TZ) && hold cp apiserver || return 1
  before=$(checkpoints outage)
  sleep 20
  after=$(checkpoints outage)
  release cp apiserver
  within 30 kubectl get --raw /readyz && wake
  [ "$after" -ge $((before + 3)) ] || { echo "it did not train on meanwhile: $before checkpoints, then $after"; return 1; }
  succeeded outage && is 0 field outage restarts || return 1
  # Told of once, however often it tried, with what to look at; twice where a connection broke again as the server came back.
  for message in '"cannot read or write the lease".*is the API server up' '"the lease works again"' \
    '"cannot list or watch".*/trainingjobs".*is the API server up' '"the watch works again".*/trainingjobs"'; do
    within 30 tells_once_or_twice "$controller" "$since" "$message" || return 1  # the kubelets start again, too
  done
}
tells_once_or_twice() { # POD SINCE PATTERN
  local told
  told=$(kubectl -n $SYSTEM logs "$1" --since-time "$2" | grep -c "$3") && [ "$told" -le 2 ] || { echo "$told lines with $3"; return 1; }
}

test_an_agent_that_cannot_be_reached_gives_a_condition() {
  start hidden 's/steps: [0-9]*/steps: 100000/' && within 60 has_checkpoints hidden 1 || return 1
  local node result
  node=$(worker hidden 1 spec.nodeName) && hide "$node" "$(worker hidden 1 status.podIP)" || return 1
  within 60 has NetworkPolicies condition hidden Running message
  result=$?
  show "$node"
  return $result
}

test_a_corrupt_checkpoint_is_passed_over() {
  start corrupt && within 60 has_checkpoints corrupt 2 && suspend corrupt true && within 60 phase_is corrupt Suspended || return 1
  local newest file
  newest=$(find "$DIR/volumes/default/checkpoints/corrupt" -maxdepth 1 -name 'step-*' | sort | tail -n 1)
  file=$(find "$newest" -name '*.safetensors' | sort | head -n 1)
  printf 'xxxx' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 100)) conv=notrunc status=none
  suspend corrupt false && succeeded corrupt && has "CheckpointCorrupt" events corrupt && has "${newest##*/}" events corrupt
}

# ---- the chart

test_an_upgrade_may_add_a_field_to_the_crd_while_a_job_trains() {
  local chart=build/e2e-chart
  rm -rf $chart && cp -r helm $chart
  sed -i 's/^              suspend:$/              addedByAnUpgrade: {type: string, description: new, maxLength: 9}\n              suspend:/' $chart/files/trainingjob.yaml
  grep -q addedByAnUpgrade $chart/files/trainingjob.yaml || { echo "the chart's CRD has no suspend at the expected place"; return 1; }
  start upgraded && within 60 has_checkpoints upgraded 1 &&
    helm upgrade trainyard $chart --namespace $SYSTEM --reuse-values --wait --timeout 60s &&
    within 20 has addedByAnUpgrade kubectl explain trainingjob.spec && succeeded upgraded && is 0 field upgraded restarts &&
    install_chart
}

test_a_namespace_goes_away_without_the_controller() {
  new_namespace leaving && manifest stays | kubectl -n leaving apply -f - &&
    within 60 has Running kubectl -n leaving get trainingjob stays -o 'jsonpath={.status.phase}' || return 1
  local result
  kubectl -n $SYSTEM scale deployment --all --replicas 0 &&
    within 60 is "" kubectl -n $SYSTEM get pods -o name &&
    kubectl delete namespace leaving --timeout 120s
  result=$?
  install_chart && return $result
}

test_uninstall_keeps_the_jobs_and_the_next_install_goes_on_with_them() {
  start kept && within 60 has_checkpoints kept 1 && suspend kept true && within 60 phase_is kept Suspended &&
    helm uninstall trainyard --namespace $SYSTEM --wait --timeout 60s && kubectl get trainingjob kept &&
    install_chart && suspend kept false && succeeded kept
}

test_some_namespaces_are_run_by_one_who_may_do_nothing_elsewhere() {
  # Installer, controllers and workers all live with what a team is given: everything in one namespace of the restricted profile.
  local result
  undisturbed_loss > /dev/null || return 1
  new_namespace team pod-security.kubernetes.io/enforce=restricted && kubectl apply -f tests/e2e/team_lead.yaml &&
    helm uninstall trainyard --namespace $SYSTEM --wait --timeout 60s && trains_in_the_team_alone
  result=$?
  helm uninstall trainyard --namespace team --wait --timeout 60s
  install_chart && return $result
}
trains_in_the_team_alone() {
  start others 's/^  parallelism:/  placement: {binding: Scheduler}\n  parallelism:/'
  install_into team --kube-as-user lead --set 'watchNamespaces={team}' --set crds.install=false &&
    in_namespace team start trained 's/^  parallelism:/  placement: {binding: Scheduler}\n  parallelism:/' &&
    in_namespace team succeeded trained && is "" field others phase && no_pods_of others &&
    as_controller get pods --namespace team > /dev/null &&
    fails_with Forbidden as_controller get pods --all-namespaces && fails_with Forbidden as_controller get nodes &&
    fails_with Forbidden as_controller get trainingjobs --all-namespaces &&
    fails_with Forbidden as_controller get pods --namespace default
}
as_controller() { kubectl --as system:serviceaccount:team:trainyard "$@"; }

# ---- the run

if [ ! -e "$DIR" ]; then trap 'tests/cluster/down.sh' EXIT; fi
{ .ci/corpus && tests/cluster/up.sh && load_images && rm -rf "$DIR"/volumes/*/checkpoints/* && make_volumes && install_chart; } >> "$log" 2>&1 ||
  { cat "$log"; echo "0 passed, 1 failed"; exit 1; }
for name in $(sed -n 's/^test_\([a-z0-9_]*\)().*/\1/p' "$self" tests/e2e/{kubectl,busy_cluster}.sh); do run "$name"; done
printf '\n%d passed, %d failed\n' $passed $failed
[ $failed = 0 ] && [ $passed -gt 0 ]
