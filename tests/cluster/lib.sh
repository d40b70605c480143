# shellcheck shell=bash
# Names, addresses and helpers of the cluster, for the scripts beside this file and for people. Source it.
# Everything the cluster writes lies under $DIR; down.sh removes that folder.
# shellcheck disable=SC2034  # many names are for those who source this
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=$(readlink -f "$HERE/../../.tools/kubernetes")/bin
DIR=$(realpath -m "${TRAINYARD_CLUSTER_DIR:-${TMPDIR:-/tmp}/trainyard-cluster}")
IMAGES=$DIR/images                   # what every node loads when it starts: *.tar

# A running cluster remembers what it was started with.
# shellcheck source=/dev/null
[ ! -e "$DIR/settings" ] || . "$DIR/settings"
NODES=${NODES:-2}                    # how many real nodes, up to 9
GPUS=${GPUS:-8}                      # imaginary GPUs of each; 0: no device plugin
PROXY=${PROXY:-nftables}             # kube-proxy's mode: nftables or iptables
GRACE=${GRACE:-6s}                   # how long a node may be silent before it is NotReady
TOLERATE=${TOLERATE:-15}             # seconds that pods stay on a node that is NotReady, where they do not say
BACKOFF=${BACKOFF:-2s}               # the longest wait before a crashing container starts again

NET=10.213.0                         # the machines: this host .1, the control plane .2, node i .(10+i)
PODS=10.214                          # node i's pods: $PODS.i.0/24
FAKE_PODS=10.215.0.0/16
SERVICES=10.96.0.0/16
DNS=10.96.0.10
CONTROL_PLANE=$NET.2
API=https://$CONTROL_PLANE:6443
PAUSE=trainyard.test/pause:1

export KUBECONFIG=$DIR/admin.kubeconfig
PATH=$BIN:$PATH

node_ip() { echo "$NET.$((10 + $1))"; }
k() { kubectl "$@"; }

# machines: those that were started: cp node-1 node-2 ...
machines() {
  local d
  for d in "$DIR"/cp "$DIR"/node-?; do
    [ ! -d "$d" ] || basename "$d"
  done
}

# init_pid MACHINE: its PID 1 as seen from here; fails if that is gone, or the number is another's by now.
init_pid() {
  local pid
  pid=$(cat "$DIR/$1/init.pid" 2> /dev/null) || return 1
  { tr '\0' ' ' < "/proc/$pid/cmdline"; } 2> /dev/null | grep -qF "$DIR/$1" && echo "$pid"
}

# power_on MACHINE: starts its PID 1.
power_on() {
  setsid nsenter --net="/run/netns/trainyard-$1" \
    unshare --mount --pid --uts --ipc --fork --kill-child --mount-proc \
    bash "$HERE/init.sh" "$DIR/$1" < /dev/null >> "$DIR/$1/init.log" 2>&1 &
  local outer=$! inner=
  until inner=$(cat "/proc/$outer/task/$outer/children" 2> /dev/null) && [ -n "$inner" ]; do sleep 0.05; done
  echo "${inner% }" > "$DIR/$1/init.pid"
}

# power_off MACHINE: kills its PID 1, and so, at once, all that it ever started.
power_off() {
  local pid
  pid=$(init_pid "$1") || return 0
  kill -9 "$pid"
  while [ -e "/proc/$pid" ]; do sleep 0.05; done
  remove_cgroups "trainyard/$1/kubepods"   # a reboot clears them; a kubelet that finds them loses 3 s for each
}

# cgroup_roots: where each hierarchy is mounted: one of version 2, or one for each controller of version 1.
cgroup_roots() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo /sys/fs/cgroup
  else
    ls -d /sys/fs/cgroup/*/
  fi
}

# remove_cgroups FOLDER: removes these empty cgroups from every hierarchy; says which would not go.
remove_cgroups() {
  local root left
  for _ in $(seq 50); do
    left=$(for root in $(cgroup_roots); do
      find "$root/$1" -depth -type d -exec sh -c 'rmdir "$1" 2>/dev/null || echo "$1"' _ {} \; 2> /dev/null
    done)
    [ -n "$left" ] || return 0
    sleep 0.1
  done
  printf 'cgroups still there:\n%s\n' "$left"
  return 1
}

# on MACHINE COMMAND...: runs a command inside a machine, in all its namespaces.
on() {
  local pid
  pid=$(init_pid "$1") || return 1
  shift
  nsenter -t "$pid" -m -n -p -u -i -- "$@"
}

# crash MACHINE DAEMON [SIGNAL]: its supervisor starts it again a second later.
crash() { on "$1" kill "-${3:-9}" "$(cat "$DIR/$1/$2.pid")"; }

# hold MACHINE DAEMON: stops it and keeps it stopped. release MACHINE DAEMON: lets it run again.
hold() {
  touch "$DIR/$1/$2.hold"
  crash "$1" "$2"
}
release() { rm -f "$DIR/$1/$2.hold"; }

# wake: after an outage of the API server, restarts all that else waits in a back-off, up to a minute, to watch again.
wake() {
  local machine daemon
  for machine in $(machines); do
    for daemon in kcm scheduler kwok kubelet proxy; do
      if [ -e "$DIR/$machine/$daemon.pid" ] && [ ! -e "$DIR/$machine/$daemon.hold" ]; then
        crash "$machine" "$daemon"
      fi
    done
  done
}

# cut_link MACHINE, mend_link MACHINE: pulls its network cable at the switch, and puts it back. `host` is a port too.
cut_link() { ip -n trainyard-sw link set "$1" down; }
mend_link() { ip -n trainyard-sw link set "$1" up; }

# hide NODE POD_IP: nobody outside the node reaches that pod, and it reaches nobody, as under a NetworkPolicy that allows
# nothing (the cluster's own network enforces none). show NODE: ends that for all of the node's pods.
hide() {
  ip netns exec "trainyard-$1" nft -f - <<NFT
add table ip trainyard-hide
add chain ip trainyard-hide forward { type filter hook forward priority 0; }
add rule ip trainyard-hide forward ip daddr $2 drop
add rule ip trainyard-hide forward ip saddr $2 drop
NFT
}
show() { ip netns exec "trainyard-$1" nft delete table ip trainyard-hide; }

# load NODE TAR: puts an image into a node.
load() { on "$1" ctr -n k8s.io images import "$2" > /dev/null; }

# kill_in NODE POD PROGRAM [NAMESPACE [SIGNAL]]: SIGKILL, or another signal, to the processes of that name in a pod's first container, each by its id; fails where
# there is none. Of a program's name the kernel keeps 15 characters.
kill_in() {
  local id pid result=1
  id=$(k -n "${4:-default}" get pod "$2" -o jsonpath='{.status.containerStatuses[0].containerID}') || return 1
  for pid in $(on "$1" ctr -n k8s.io tasks ps "${id#containerd://}" | awk 'NR > 1 {print $1}'); do
    if [ "$(on "$1" cat "/proc/$pid/comm")" = "${3:0:15}" ] && on "$1" kill "-${5:-KILL}" "$pid"; then result=0; fi
  done
  return $result
}
