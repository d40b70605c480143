# shellcheck shell=bash disable=SC2154
# Tests of e2e_test.sh: jobs beside others, in queues and under rules.

test_jobs_wait_for_their_queues_quota_and_for_stopped_queues() {
  queue research 300m && queue products 300m && program first "$LIVES" "$(of_queue research)" && within 30 phase_is first Running &&
    program second "$LIVES" "$(of_queue research)" && within 10 phase_is second Pending && program third "$LIVES" "$(of_queue research)" &&
    program other "$LIVES" "$(of_queue products)" && within 30 phase_is other Running || return 1
  within 10 is QuotaExceeded condition second Admitted reason &&
    has 'cpu needs 200m, 100m free (nominal 300m, used 200m)' condition second Admitted message && is 1 field second queue.position &&
    within 10 is 2 field third queue.position && no_pods_of second &&
    within 15 is '2 waiting for QuotaExceeded 1 running, cpu 200m/300m' usage research || return 1
  kubectl delete trainingjob first && within 30 phase_is second Running && phase_is third Pending || return 1
  # A queue that is held starts nothing more, though its quota is free; one that is drained runs nothing either.
  kubectl patch trainingqueue research --type merge -p '{"spec":{"stop":"Hold"}}' &&
    kubectl patch trainingqueue products --type merge -p '{"spec":{"stop":"Drain"}}' && within 20 no_pods_of other &&
    within 10 is QueueStopped condition other Placed reason && phase_is second Running &&
    kubectl delete trainingjob second && within 20 is QueueStopped condition third Placed reason &&
    kubectl wait trainingqueue research products --for condition=Active=false --timeout 15s && no_pods_of third || return 1
  kubectl patch trainingqueue research products --type merge -p '{"spec":{"stop":"None"}}' && within 30 phase_is third Running &&
    within 30 phase_is other Running
}
usage() { # QUEUE
  local template='{{range .pendingReasons}}{{.jobs}} waiting for {{.reason}} {{end}}{{.running}} running, {{.summary}}'
  kubectl get trainingqueue "$1" -o "go-template={{with .status}}$template{{end}}"
}

test_a_queue_takes_its_quota_back_at_a_checkpoint_of_the_gang_that_borrows() {
  # No checkpoint is due before the end, which is far away.
  local both=$((2 * ${HALF_A_NODE%m}))m step
  queue lab 0 && queue products $both 'parent: lab' && queue research 0 'parent: lab' &&
    start borrower "$(of_queue research)" 's/steps: [0-9]*/steps: 100000/' 's/everySteps: 50/everySteps: 100000/' &&
    within 60 phase_is borrower Running && within 15 is $both queue_field research 'usage[0].resources[0].borrowed' &&
    program owner 'sleep 3' "$(of_queue products)" && within 60 phase_is owner Succeeded &&
    is 1 field borrower preemptions && is 1 checkpoints borrower && step=$(field borrower checkpoint.step) &&
    within 60 phase_is borrower Running && is 0 field borrower restarts && has "from step $step," events borrower
}

test_the_jobs_rules_decide_by_exit_code_and_its_policy_which_pods_stay() {
  # Worker 0 ends with 42 in the first gang, and with 43 in the second.
  local ends="case \$MASTER_ADDR in ruled-0-1.*) exit 42;; esac; exit 43"
  program ruled "trap 'exit 0' TERM; [ \$RANK = 1 ] || { sleep 1; $ends; }; sleep 1000 & wait" 's/count: 1/count: 2/' \
    '$a\  lifecycle: {maxRestarts: 0, cleanPodPolicy: None, failurePolicy: {rules: [' \
    '$a\    {action: Ignore, onExitCodes: [42]}, {action: Fail, onExitCodes: [43]}]}}' &&
    within 60 phase_is ruled Failed && is 43 field ruled failure.exitCode && is 1 field ruled failure.policyRule &&
    is 0 field ruled failure.worker && is 1 field ruled uncountedRestarts && is 0 field ruled restarts &&
    within 10 is Failed worker ruled 0 status.phase && is Running worker ruled 1 status.phase || return 1
  local running="kubectl get pods -l trainyard.dev/job-name=ruled --field-selector status.phase=Running -o name"
  clean_pod_policy Running && within 20 is "" $running && is Failed worker ruled 0 status.phase &&
    clean_pod_policy All && within 20 no_pods_of ruled
}
clean_pod_policy() { kubectl patch trainingjob ruled --type merge -p "{\"spec\":{\"lifecycle\":{\"cleanPodPolicy\":\"$1\"}}}"; }

test_the_example_trains_under_the_restricted_profile_and_a_template_that_it_forbids_says_so() {
  new_namespace restricted pod-security.kubernetes.io/enforce=restricted &&
    sed 's/^    steps: 500/    steps: 20/; s/warmupSteps: 50/warmupSteps: 5/' crds/examples/dictionary-tiny.yaml |
    kubectl -n restricted apply -f - &&
    in_namespace restricted is_told_what_is_forbidden && in_namespace restricted within 90 phase_is dictionary-tiny Succeeded
}
is_told_what_is_forbidden() {
  local job before
  start privileged 's/- name: worker/- name: worker\n          securityContext: {privileged: true}/' && program silent "$LIVES" || return 1
  for job in privileged silent; do
    within 20 has 'violates PodSecurity "restricted:latest"' condition $job Accepted message && no_pods_of $job || return 1
  done
  has allowPrivilegeEscalation condition silent Accepted message || return 1
  # It is told once, and asked again when it may have been mended, a minute later.
  before=$(kubectl get trainingjobs privileged silent -o 'jsonpath={.items[*].metadata.resourceVersion}')
  sleep 3
  is "$before" kubectl get trainingjobs privileged silent -o 'jsonpath={.items[*].metadata.resourceVersion}'
}
