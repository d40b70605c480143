#!/usr/bin/env bash
# Runs the demo on a cluster that another checkout has used: it goes on with the volumes that are there, and leaves what is of other jobs.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh
passed=0 failed=0
check() { # WHAT COMMAND...
  if "${@:2}"; then passed=$((passed + 1)) && echo "ok    $1"; else failed=$((failed + 1)) && echo "FAIL  $1"; fi
}

# another_checkout: makes the volumes out of a folder elsewhere that has this project's files.
another_checkout() {
  local elsewhere status=0
  elsewhere=$(mktemp -d) || return 1
  ln -s "$PWD"/{.ci,.tools,crds,tests} "$elsewhere"
  (cd "$elsewhere" && make_volumes) || status=$?
  rm -rf "$elsewhere"
  return $status
}
volumes() { kubectl get pv -o 'jsonpath={range .items[*]}{.metadata.uid} {.spec.hostPath.path}{"\n"}{end}' | sort; }

tests/cluster/up.sh
check "another checkout makes the volumes" another_checkout
before=$(volumes)
checkpoints=$DIR/volumes/default/checkpoints
mkdir -p "$checkpoints"/{of-another-job,dictionary-tiny}
touch "$checkpoints"/{of-another-job,dictionary-tiny}/kept
check "the demo trains the example" env TRAINYARD_CLUSTER=local tests/e2e/demo.sh
check "the volumes are those that were there" [ "$(volumes)" = "$before" ]
check "the checkpoints of other jobs are there" [ -e "$checkpoints/of-another-job/kept" ]
check "that of its job is gone" [ ! -e "$checkpoints/dictionary-tiny/kept" ]
check "new ones of its job are there" [ -n "$(ls "$checkpoints/dictionary-tiny")" ]
rm -rf "$checkpoints/of-another-job"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
