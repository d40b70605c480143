# shellcheck shell=bash
# PID 1 of one machine of the cluster (a node, or the control plane), run by power_on inside PID, mount, UTS, IPC and
# network namespaces of its own: init.sh FOLDER. The machine is named after its folder and runs FOLDER/machine.sh.
set -u
D=$1
hostname "$(basename "$D")"

# /sys as this network namespace sees it, with the cgroup mounts carried over. This comes while all is still private: a
# shared umount would take both copies of the cgroup mounts.
mkdir -p "$D/cgroup"
mount --rbind /sys/fs/cgroup "$D/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$D/cgroup" /sys/fs/cgroup
umount -l "$D/cgroup"

# Folders whose paths are fixed in some program, private to this machine. What must survive a reboot is on the disk.
for folder in /run /var/lib /var/log; do
  mount -t tmpfs -o size=64m,mode=755 tmpfs "$folder"
done
for folder in kubelet containerd cni; do
  mkdir -p "$D/lib/$folder" "/var/lib/$folder"
  mount --bind "$D/lib/$folder" "/var/lib/$folder"
done
# One folder for all: what hostPath volumes of several nodes share, as on nodes that mount one file system.
mkdir -p "$(dirname "$D")/shared" /var/lib/trainyard
mount --bind "$(dirname "$D")/shared" /var/lib/trainyard
mkdir -p "$D/log" /var/log/pods /var/log/containers
mount --bind "$D/log" /var/log/pods

mount --make-rshared /          # kubelet and runc want it; only this machine's processes share

# keep NAME COMMAND...: runs it, and again a second after it ended, unless NAME.hold is there.
keep() {
  local name=$1
  shift
  while :; do
    if [ -e "$D/$name.hold" ]; then
      sleep 0.2
      continue
    fi
    "$@" >> "$D/$name.log" 2>&1 &
    echo $! > "$D/$name.pid"
    wait $!
    echo "--- $name ended ($?) at $(date +%T.%N)" >> "$D/$name.log"
    sleep 1
  done
}

# shellcheck source=/dev/null
. "$D/machine.sh"
while :; do
  sleep 3600 &
  wait $!
done
