# shellcheck shell=bash disable=SC2154
# Tests of e2e_test.sh: what people do to jobs with kubectl.

test_kubectl_asks_what_would_be_and_then_follows_a_job_to_its_end() {
  local watcher result
  undisturbed_loss > /dev/null && start followed 's/^spec:/spec:\n  dryRun: true/' || return 1
  kubectl get trainingjob followed --watch -o 'jsonpath={.status.phase}{"\n"}' > build/e2e-watch 2>&1 &
  watcher=$!
  follow followed
  result=$?
  kill $watcher
  return $result
}
follow() {
  kubectl wait trainingjob "$1" --for 'jsonpath={.status.dryRun.placement.nodes}=2' --timeout 20s &&
    is DryRun condition "$1" Placed reason && has 'it would be placed: 2 workers on 2 nodes' condition "$1" Placed message &&
    has memoryPerRank field "$1" dryRun.placement && no_pods_of "$1" || return 1
  kubectl patch trainingjob "$1" --type merge -p '{"spec":{"dryRun":false}}' &&
    kubectl wait trainingjob "$1" --for condition=Running --timeout 60s && is "" field "$1" dryRun &&
    is "trainingjob.trainyard.dev/$1" kubectl get tj --field-selector status.phase=Running -o name &&
    has "PHASE STEP LOSS TOKENS/S LEFT AGE ACCEPTED PLACED QUEUE POSITION MFU WORKERS RESTARTS UNCOUNTED NODES FAILED" \
      squeezed kubectl get tj "$1" -o wide &&
    has "$1 Running" squeezed kubectl get all &&
    has 'exit code' squeezed kubectl explain tj.spec.lifecycle.failurePolicy.rules.onExitCodes &&
    prometheus_reads default "$1-0-1" 8471 && prometheus_reads $SYSTEM "$(leader)" 8080 || return 1
  kubectl wait trainingjob "$1" --for condition=Complete --timeout 120s &&
    kubectl wait trainingjob "$1" --for 'jsonpath={.status.phase}=Succeeded' --timeout 5s &&
    is "$(undisturbed_loss)" field "$1" progress.loss &&
    has 'Pending Starting Running Succeeded' sh -c 'sleep 1; grep . build/e2e-watch | uniq | xargs' &&
    within 10 has Succeeded kubectl events --for "trainingjob/$1" || return 1
  # A condition is waited for until it is of the newest edit.
  kubectl patch trainingjob "$1" --type merge -p '{"spec":{"lifecycle":{"maxRestarts":7}}}' &&
    kubectl wait trainingjob "$1" --for condition=Complete --timeout 10s
}
prometheus_reads() { # NAMESPACE POD PORT: what it exposes, with no name or text that Prometheus' conventions are against
  within 10 has trainyard_ kubectl get --raw "/api/v1/namespaces/$1/pods/$2:$3/proxy/metrics" || return 1
  kubectl get --raw "/api/v1/namespaces/$1/pods/$2:$3/proxy/metrics" | .tools/promtool/promtool check metrics
}
squeezed() { "$@" | tr -s ' \n' ' '; }

test_kubectl_applies_and_diffs_a_job_and_several_managers_share_it() {
  local file=build/e2e-shared.yaml
  manifest shared 's/suspend: false/suspend: true/' > $file && has created kubectl apply -f $file && within 20 phase_is shared Suspended &&
    is "" kubectl diff -f $file && has unchanged kubectl apply -f $file && is 1 kubectl get tj shared -o 'jsonpath={.metadata.generation}' || return 1
  sed -i 's/everySteps: 50/everySteps: 60/' $file
  fails_with '+    everySteps: 60' kubectl diff -f $file && has configured kubectl apply -f $file && is 60 every_steps || return 1
  # From here on by server-side apply. What the schema's defaults and the controller wrote is no difference, and no conflict.
  has serverside-applied kubectl apply --server-side -f $file && is "" kubectl diff --server-side -f $file &&
    as_platform 'lifecycle: {maxRestarts: 9}' && is 9 max_restarts && has serverside-applied kubectl apply --server-side -f $file &&
    is 9 max_restarts && fails_with 'conflict with "kubectl"' as_platform 'checkpoint: {everySteps: 70}' && is 60 every_steps || return 1
  # What a manager applies no more it gives up: the default is back.
  as_platform 'checkpoint: {everySteps: 70}' --force-conflicts && is 70 every_steps && is 5 max_restarts &&
    fails_with 'conflict with "platform"' kubectl apply --server-side -f $file &&
    fails_with 'may not change after the job was created' as_platform 'parallelism: {microBatchSize: 2}' --force-conflicts &&
    within 10 is "$(kubectl get tj shared -o 'jsonpath={.metadata.generation}')" field shared observedGeneration &&
    phase_is shared Suspended
}
every_steps() { kubectl get tj shared -o 'jsonpath={.spec.checkpoint.everySteps}'; }
max_restarts() { kubectl get tj shared -o 'jsonpath={.spec.lifecycle.maxRestarts}'; }
as_platform() { # A PART OF THE SPEC [OPTION...]
  kubectl apply --server-side --field-manager platform -f - "${@:2}" <<YAML
{apiVersion: trainyard.dev/v1alpha1, kind: TrainingJob, metadata: {name: shared}, spec: {$1}}
YAML
}

test_kubectl_scales_a_job_and_one_that_loses_a_node_goes_on_with_fewer_workers() {
  local result
  kubectl create rolebinding editor --clusterrole edit --user editor
  start scaled 's/count: 2/count: 2\n    minCount: 1/' 's/data: 2, //' && within 60 has_checkpoints scaled 1 && scales_down_and_up scaled
  result=$?
  kubectl uncordon $(kubectl get nodes -o name)
  kubectl delete rolebinding editor
  return $result
}
scales_down_and_up() {
  fails_with 'must be a multiple of data x microBatchSize' kubectl scale tj "$1" --replicas 3 --as editor &&
    kubectl scale tj "$1" --replicas 1 --current-replicas 2 --as editor && within 60 has_size "$1" 1 &&
    kubectl scale tj "$1" --replicas 2 --as editor && within 60 has_size "$1" 2 || return 1
  # Drained while no other node takes pods: its worker has nowhere to go.
  local kept drained node
  kept=$(worker "$1" 0 spec.nodeName) && drained=$(worker "$1" 1 spec.nodeName) || return 1
  for node in $(kubectl get nodes -o 'jsonpath={.items[*].metadata.name}'); do [ "$node" = "$kept" ] || kubectl cordon "$node"; done
  kubectl drain "$drained" --pod-selector "trainyard.dev/job-name=$1" --delete-emptydir-data --timeout 60s && within 60 has_size "$1" 1 &&
    is "$kept" worker "$1" 0 spec.nodeName && succeeded "$1" && is 0 field "$1" restarts
}
has_size() { is "$2" field "$1" placement.workers && is "$2" field "$1" workers.ready && phase_is "$1" Running; }

test_kubectl_deletes_a_job_with_each_propagation() {
  local slow="trap 'sleep 3; exit 0' TERM; sleep 1000 & wait" job
  for job in background foreground orphan; do program $job "$slow" || return 1; done
  for job in background foreground orphan; do within 30 phase_is $job Running || return 1; done
  # In the foreground the job is there as long as its pods are; and nobody makes others in their place.
  kubectl delete trainingjob foreground --cascade=foreground --timeout 30s && no_pods_of foreground &&
    kubectl delete trainingjob background --timeout 30s && within 30 no_pods_of background || return 1
  # Pods that were left without their job go on, and a job of that name makes others.
  kubectl delete trainingjob orphan --cascade=orphan --timeout 30s &&
    within 10 is "" kubectl get pod orphan-0-1 -o 'jsonpath={.metadata.ownerReferences}' &&
    program orphan "$LIVES" && within 30 phase_is orphan Running && is orphan-0-2 worker orphan 0 metadata.name &&
    is Running kubectl get pod orphan-0-1 -o 'jsonpath={.status.phase}'
}
