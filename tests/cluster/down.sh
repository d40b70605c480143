#!/usr/bin/env bash
# Ends the cluster and takes away all that it made, and then looks whether anything is left: exit status 1 if so. It ends
# the PID 1s that power_on noted, which take every process, mount and pod network of their machine with them.
# With --keep, the logs stay in $DIR.logs.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
[ -d "$DIR" ] || { echo "there is no cluster at $DIR"; exit 0; }
[ -e "$DIR/sysctl.before" ] || { echo "$DIR is not a cluster's folder; it stays as it is" >&2; exit 1; }

namespaces=()                   # of the machines' processes, to be looked for afterwards
for machine in $(machines); do
  ! pid=$(init_pid "$machine") || namespaces+=("$(readlink "/proc/$pid/ns/pid")")
done
for machine in $(machines); do power_off "$machine"; done
for namespace in $(ip netns list | awk '/^trainyard-/ {print $1}'); do
  for pid in $(ip netns pids "$namespace"); do kill -9 "$pid"; done   # of a machine whose start was cut short
  ip netns del "$namespace"
done
ip link del trainyard0 2> /dev/null       # the host's routes go with it
if [ -z "$(ls /run/netns 2> /dev/null)" ]; then
  [ -e "$DIR/netns-mount.before" ] || umount /run/netns 2> /dev/null
  [ -e "$DIR/netns-folder.before" ] || rmdir /run/netns 2> /dev/null
fi
remove_cgroups trainyard
sysctl -q -p "$DIR/sysctl.before"

left=()
for process in /proc/[0-9]*; do
  namespace=$(readlink "$process/ns/pid" 2> /dev/null) || continue
  [[ " ${namespaces[*]} " != *" $namespace "* ]] || left+=("process ${process#/proc/}: $(tr '\0' ' ' < "$process/cmdline")")
done
note() { # WHAT: each line of the input is something left
  local line
  while read -r line; do left+=("$1: $line"); done
}
note mount < <(grep -e " $DIR/" -e /run/netns/trainyard- /proc/self/mountinfo)
note "network namespace" < <(ip netns list | grep '^trainyard-')
note link < <(ip -brief link show | grep '^trainyard')
note route < <(ip route show | grep -e " $NET\." -e "^$PODS\." -e "^$SERVICES")
note "firewall rule" < <(nft list ruleset | grep -e trainyard -e "$NET\." -e "$PODS\." -e "$SERVICES")
note cgroup < <(for root in $(cgroup_roots); do ls -d "$root/trainyard" 2> /dev/null; done)
while IFS='=' read -r name value; do
  [ "$(sysctl -n "$name")" = "$value" ] || left+=("sysctl: $name is $(sysctl -n "$name"), and was $value")
done < "$DIR/sysctl.before"
if [ ${#left[@]} != 0 ]; then
  echo "down, but this is left:"
  printf '  %s\n' "${left[@]}"
  exit 1
fi

if [ "${1:-}" = --keep ]; then
  rm -rf "$DIR.logs"
  mkdir "$DIR.logs"
  (cd "$DIR" && find . -name '*.log' -size -50M -exec cp --parents {} "$DIR.logs/" \;)
fi
rm -rf "$DIR" && echo "down; nothing is left"
