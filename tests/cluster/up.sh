#!/usr/bin/env bash
# Starts the cluster: a switch, a control plane and $NODES nodes, each in namespaces of its own. Run again, it says that
# the cluster is up. Settings, from the environment: NODES GPUS PROXY GRACE TOLERATE BACKOFF (lib.sh says what they are).
set -euo pipefail
asked=$(env | grep -E '^(NODES|GPUS|PROXY|GRACE|TOLERATE|BACKOFF)=' || true)
. "$(dirname "$0")/lib.sh"
. "$HERE/keys.sh"

all_ready() { [ "$(k get nodes -l trainyard.test/rack --no-headers 2> /dev/null | grep -c '^node-.* Ready ')" = "$NODES" ]; }
dns_ready() { [ "$(k -n kube-system get deployment coredns -o jsonpath='{.status.readyReplicas}' 2> /dev/null)" = 1 ]; }
healthy() {
  for machine in cp $(seq -f 'node-%g' "$NODES"); do init_pid "$machine" > /dev/null || return 1; done
  [ -e "$DIR/settings" ] && all_ready && dns_ready
}
if [ -e "$DIR" ]; then
  healthy || { echo "$DIR holds a cluster that is not well (or half of one): run $HERE/down.sh first" >&2; exit 1; }
  while IFS='=' read -r name value; do
    [ -z "$name" ] || [ "${!name}" = "$value" ] ||
      { echo "the cluster is up with $name=${!name}, not $value: run $HERE/down.sh first" >&2; exit 1; }
  done <<< "$asked"
  echo "the cluster is up already"
  echo "export KUBECONFIG=$KUBECONFIG"
  exit 0
fi
[ "$(id -u)" = 0 ] || { echo "the cluster needs root: it makes namespaces and mounts" >&2; exit 1; }
[ ! -e /run/netns/trainyard-sw ] || { echo "another such cluster is up on this machine: one at a time" >&2; exit 1; }
for program in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns gpuplugin kwok; do
  [ -x "$BIN/$program" ] || { echo "there is no $program in $BIN: run .ci/setup-kubernetes first" >&2; exit 1; }
done
for program in containerd runc busybox nft iptables conntrack ip curl gcc python3 openssl; do
  command -v "$program" > /dev/null || { echo "there is no $program: run .ci/setup cluster first" >&2; exit 1; }
done

started=$(date +%s%N)
say() {
  local ms=$((($(date +%s%N) - started) / 1000000))
  printf '%3d.%d s  %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*"
}
# within SECONDS WHAT COMMAND...: waits until it succeeds.
within() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $deadline ] || { echo "not seen: $what" >&2; return 1; }
    sleep 0.2
  done
}
mkdir -p "$DIR"
cd "$DIR"
trap '[ $? = 0 ] || echo "the cluster did not come up; its logs are in $DIR; $HERE/down.sh removes what is there" >&2' EXIT

# What kubelets change for the whole kernel, to be put back by down.sh.
for name in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
            kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do
  echo "$name=$(sysctl -n $name)"
done > sysctl.before
[ ! -d /run/netns ] || touch netns-folder.before
! mountpoint -q /run/netns || touch netns-mount.before

"$HERE/images.sh" "$IMAGES" &
images=$!

# ---- keys
make_authority
service=${SERVICES%.0/16}.1
make_key apiserver /CN=kube-apiserver "IP:$CONTROL_PLANE,IP:$service,IP:127.0.0.1,DNS:localhost,\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
make_key admin /O=system:masters/CN=admin DNS:admin
make_key kcm /CN=system:kube-controller-manager DNS:kcm
make_key scheduler /CN=system:kube-scheduler DNS:scheduler
make_key kube-proxy /CN=system:kube-proxy DNS:kube-proxy
for name in admin kcm scheduler kube-proxy; do make_kubeconfig $name $API; done
for i in $(seq "$NODES"); do
  make_key "node-$i" "/O=system:nodes/CN=system:node:node-$i" "DNS:node-$i,IP:$(node_ip "$i")"
  make_kubeconfig "node-$i" $API
done
say keys

# ---- links: a bridge in a namespace of its own, one cable per machine and one to the host
ip netns add trainyard-sw
ip -n trainyard-sw link add br0 type bridge
ip -n trainyard-sw link set br0 up
ip -n trainyard-sw link set lo up
cable() { # MACHINE ADDRESS
  local ns=trainyard-$1
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip -n trainyard-sw link add "$1" type veth peer name eth0 netns "$ns"
  ip -n trainyard-sw link set "$1" master br0 up
  ip -n "$ns" addr add "$2/24" dev eth0
  ip -n "$ns" link set eth0 up
}
cable cp $CONTROL_PLANE
for i in $(seq "$NODES"); do cable "node-$i" "$(node_ip "$i")"; done
ip -n trainyard-sw link add host type veth peer name trainyard0 netns $$
ip -n trainyard-sw link set host master br0 up
ip addr add $NET.1/24 dev trainyard0
ip link set trainyard0 up

# No default route anywhere: pods and nodes can reach one another, the control plane and this host's $NET.1, and nothing
# else. Services need a route all the same (a lookup comes before the rewrite), and so do pods of other nodes.
for machine in cp $(seq -f 'node-%g' "$NODES"); do
  ns=trainyard-$machine
  ip netns exec "$ns" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
  for i in $(seq "$NODES"); do
    [ "$machine" = "node-$i" ] || ip -n "$ns" route add "$PODS.$i.0/24" via "$(node_ip "$i")"
  done
  [ "$machine" = cp ] || ip -n "$ns" route add $SERVICES dev eth0
done
ip -n trainyard-cp route add $SERVICES via "$(node_ip 1)"
for i in $(seq "$NODES"); do ip route add "$PODS.$i.0/24" via "$(node_ip "$i")"; done
ip route add $SERVICES via "$(node_ip 1)"
say links

# ---- control plane
# apiserver: nodes have no names to look up, hence InternalIP; it runs no kube-proxy, hence the aggregator's routing.
# kcm: the shares below that slow evictions down after larger outages are off. faults.md has the reasons.
# kwok: its leases must be shorter than the grace period, or its nodes flicker.
mkdir cp
cat > cp/machine.sh <<SH
keep etcd $BIN/etcd --name cp --data-dir $DIR/cp/etcd --unsafe-no-fsync \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 &
keep apiserver $BIN/kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
  --secure-port=6443 --bind-address=0.0.0.0 --advertise-address=$CONTROL_PLANE \
  --tls-cert-file=$DIR/pki/apiserver.crt --tls-private-key-file=$DIR/pki/apiserver.key \
  --client-ca-file=$DIR/pki/ca.crt --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=$DIR/pki/service-accounts.pub \
  --service-account-signing-key-file=$DIR/pki/service-accounts.key --service-cluster-ip-range=$SERVICES \
  --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority=$DIR/pki/ca.crt \
  --kubelet-client-certificate=$DIR/pki/admin.crt --kubelet-client-key=$DIR/pki/admin.key \
  --enable-aggregator-routing=true --allow-privileged=true \
  --default-not-ready-toleration-seconds=$TOLERATE --default-unreachable-toleration-seconds=$TOLERATE &
keep kcm $BIN/kube-controller-manager --kubeconfig=$DIR/kcm.kubeconfig --leader-elect=false \
  --service-account-private-key-file=$DIR/pki/service-accounts.key --root-ca-file=$DIR/pki/ca.crt \
  --use-service-account-credentials --kube-api-qps=300 --kube-api-burst=600 \
  --node-monitor-period=1s --node-monitor-grace-period=$GRACE --node-startup-grace-period=20s \
  --node-eviction-rate=100 --secondary-node-eviction-rate=100 --unhealthy-zone-threshold=1 &
keep scheduler $BIN/kube-scheduler --config=$DIR/cp/scheduler.yaml --leader-elect=false &
keep kwok $BIN/kwok --kubeconfig=$DIR/admin.kubeconfig --config=$HERE/manifests/kwok-stages.yaml \
  --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake --cidr=$FAKE_PODS --node-ip=$CONTROL_PLANE \
  --node-lease-duration-seconds=16 &
SH
cat > cp/scheduler.yaml <<YAML
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: $DIR/scheduler.kubeconfig, qps: 500, burst: 1000}
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 2
YAML
power_on cp

# ---- nodes
# make_cgroup MACHINE: one of its own in every hierarchy, below which its kubelet keeps all pods.
make_cgroup() {
  local root group controller
  for root in $(cgroup_roots); do
    root=${root%/}
    mkdir -p "$root/trainyard/$1"
    if [ -e "$root/cgroup.subtree_control" ]; then   # version 2: hand every controller down
      for group in "$root" "$root/trainyard"; do
        for controller in $(cat "$group/cgroup.controllers"); do
          echo "+$controller" > "$group/cgroup.subtree_control" || echo "no cgroup controller $controller"
        done
      done
    elif [ -e "$root/cpuset.cpus" ]; then            # version 1: a new cpuset is empty, and then nothing may run in it
      for group in "$root/trainyard" "$root/trainyard/$1"; do
        cat "$root/cpuset.cpus" > "$group/cpuset.cpus"
        cat "$root/cpuset.mems" > "$group/cpuset.mems"
      done
    fi
  done
}
wait $images || { echo "the images could not be made" >&2; exit 1; }
for i in $(seq "$NODES"); do
  d=$DIR/node-$i
  mkdir -p "$d/cni"
  make_cgroup "node-$i"
  cat > "$d/cni/10-trainyard.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "trainyard", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam":
    {"type": "host-local", "ranges": [[{"subnet": "$PODS.$i.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  # restrict_oom_score_adj: CAP_SYS_RESOURCE may be missing. sandbox_image: there is no registry to take one from.
  cat > "$d/containerd.toml" <<TOML
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${CNI_BIN:-/usr/lib/cni}"
    conf_dir = "$d/cni"
TOML
  echo "# nothing: nodes have no way out, and pods ask CoreDNS" > "$d/resolv.conf"
  # cgroups: there need be no systemd, and the hierarchy may be of version 1. enforceNodeAllocatable, evictionHard: the
  # nodes share one machine's memory and disk, so none may judge by them.
  cat > "$d/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /trainyard/node-$i
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $DIR/pki/ca.crt}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: $DIR/pki/node-$i.crt
tlsPrivateKeyFile: $DIR/pki/node-$i.key
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $d/resolv.conf
failSwapOn: false
enforceNodeAllocatable: []
evictionHard: {}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 1s
nodeStatusReportFrequency: 10s
nodeLeaseDurationSeconds: 4
crashLoopBackOff: {maxContainerRestartPeriod: $BACKOFF}
YAML
  cat > "$d/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $DIR/kube-proxy.kubeconfig}
hostnameOverride: node-$i
mode: $PROXY
clusterCIDR: $PODS.0.0/16
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  # Two nodes a rack, two racks a block; kubernetes.io/hostname, the innermost level, is the kubelet's own.
  rack=real-$(((i - 1) / 2)) block=real-$(((i - 1) / 4))
  cat > "$d/machine.sh" <<SH
keep containerd containerd -c $d/containerd.toml &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.1; done
for image in $IMAGES/*.tar; do ctr -n k8s.io images import "\$image"; done
keep kubelet $BIN/kubelet --config=$d/kubelet.yaml --kubeconfig=$DIR/node-$i.kubeconfig --node-ip=$(node_ip "$i") \
  --node-labels=topology.kubernetes.io/zone=real,trainyard.test/block=$block,trainyard.test/rack=$rack --v=2 &
keep proxy $BIN/kube-proxy --config=$d/proxy.yaml --v=2 &
[ $GPUS = 0 ] || keep gpuplugin $BIN/gpuplugin -count=$GPUS -unhealthy=$d/gpus.broken &
SH
  power_on "node-$i"
done
for name in NODES GPUS PROXY GRACE TOLERATE BACKOFF; do echo "$name=${!name}"; done > settings
say "machines started"

api_ready() { [ "$(k get --raw /readyz 2> /dev/null)" = ok ]; }
within 60 "an API server that is ready" api_ready
say "API server ready"
k apply -f "$HERE/manifests/base.yaml" > /dev/null
within 60 "$NODES nodes that are Ready" all_ready
say "$NODES nodes Ready"
within 60 "a DNS server that is ready" dns_ready
say "DNS ready"
echo "export KUBECONFIG=$KUBECONFIG"
