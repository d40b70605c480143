#!/usr/bin/env bash
# Builds both images of the Dockerfile as a user does, but with buildah and without a registry: on a Debian 12 that mmdebstrap makes,
# or on the image BASE. Then looks at their sizes and starts their programs. As root; PRESET=cuda-release for those for GPUs; JOBS.
# What buildah and its caches keep, 12 GB, makes the next run cheap; `buildah rmi --all` takes it away.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${TRAINYARD_CACHE:-$HOME/.cache/trainyard}
preset=${PRESET:-release}
for program in buildah mmdebstrap; do
  command -v "$program" > /dev/null || { echo "dockerfile_test: there is no $program: apt-get install buildah mmdebstrap" >&2; exit 1; }
done
passed=0 failed=0
started=$SECONDS
say() { printf '%5d s  %s\n' $((SECONDS - started)) "$*"; }
check() { # NAME COMMAND...
  local name=$1
  shift
  if "$@"; then say "ok      $name" && passed=$((passed + 1)); else say "FAILED  $name" && failed=$((failed + 1)); fi
}

base=${BASE:-localhost/trainyard-debian:12}
if [ -z "${BASE:-}" ] && ! buildah inspect "$base" > /dev/null 2>&1; then
  [ -e "$cache/debian12.tar" ] ||
    { mmdebstrap --quiet --variant=apt bookworm "$cache/debian12.tar.part" --format=tar && mv "$cache/debian12.tar"{.part,}; }
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$cache/debian12.tar" / > /dev/null
  # Whom this machine trusts, as where a proxy looks into what is fetched.
  buildah add --quiet "$container" /usr/local/share/ca-certificates/ /usr/local/share/ca-certificates/ > /dev/null
  buildah config --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$container"
  buildah commit --quiet --rm "$container" "$base" > /dev/null
  say "base made"
fi

build() { # TARGET
  buildah build --layers --isolation chroot --target "$1" --tag "localhost/trainyard-$1:test" \
    --build-arg BASE="$base" --build-arg PRESET="$preset" --build-arg JOBS="${JOBS:-}" . > "build/dockerfile-$1.log" 2>&1 ||
    { tail -n 40 "build/dockerfile-$1.log"; return 1; }
}

# output TARGET COMMAND...: what a command says in a container of the image, and its status.
output() {
  local container=${containers[$1]} status=0
  shift
  buildah run --isolation chroot "$container" -- "$@" 2>&1 || status=$?
  echo "status $status"
}
says() { # TEXT TARGET COMMAND...
  local text=$1 all
  shift
  all=$(output "$@")
  grep -qF -e "$text" <<< "$all" || { echo "$all"; return 1; }
}
megabytes() { du -sm "$(buildah mount "${containers[$1]}")" | cut -f1; }

declare -A containers=()
trap 'for container in "${containers[@]}"; do buildah rm "$container" > /dev/null; done' EXIT
mkdir -p build
for target in controller worker; do
  check "the image $target is built" build "$target"
  [ "$failed" = 0 ] || exit 1
  containers[$target]=$(buildah from "localhost/trainyard-$target:test")
  say "$target: $(megabytes "$target") MB"
done

check "the controller's image is below 100 MB" test "$(megabytes controller)" -lt 100
check "the controller starts" says "--leader-elect" controller /opt/trainyard/bin/trainyard-controller --help
check "the worker starts" says "agent" worker /opt/trainyard/bin/trainyard-worker --help
check "the rank starts, with LibTorch, and says what is wrong with its configuration" \
  says "ConfigurationInvalid" worker sh -c 'echo nonsense | trainyard-rank 3>&1'
echo "dockerfile: $passed passed, $failed failed"
[ "$failed" = 0 ]
