#!/usr/bin/env bash
# fakes.sh [COUNT] [GPUS]: adds nodes that kwok simulates, 32 with 8 GPUs each unless told otherwise, in racks of 4, blocks
# of 8 and zones of 16. They carry a taint, so that only pods that tolerate it (or name their node) land on them.
# `kubectl delete nodes -l type=kwok` takes them away.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
count=${1:-32}
gpus=${2:-8}
for ((i = 0; i < count; i++)); do
  cat <<YAML
---
apiVersion: v1
kind: Node
metadata:
  name: fake-$i
  annotations: {kwok.x-k8s.io/node: fake, node.alpha.kubernetes.io/ttl: "0"}
  labels:
    type: kwok
    kubernetes.io/hostname: fake-$i
    kubernetes.io/os: linux
    kubernetes.io/arch: amd64
    topology.kubernetes.io/zone: zone-$((i / 16))
    trainyard.test/block: block-$((i / 8))
    trainyard.test/rack: rack-$((i / 4))
spec:
  taints: [{key: kwok.x-k8s.io/node, value: fake, effect: NoSchedule}]
status:
  capacity: &c {cpu: "96", memory: 1Ti, pods: "110", nvidia.com/gpu: "$gpus"}
  allocatable: *c
YAML
done | kubectl apply -f - > /dev/null
