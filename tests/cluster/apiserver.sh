#!/usr/bin/env bash
# A real kube-apiserver and etcd on loopback, for integration tests that need no nodes: a CRD's schema, admission,
# watches, RBAC, server-side apply. No controller runs: nothing collects owned objects, finishes deleting a namespace,
# fills the roles admin, edit and view, or makes service accounts. So the admission plugin that wants a pod's service
# account to exist is off.
#
#   apiserver.sh [--port PORT] [-- FLAG_OF_KUBE_APISERVER...]
#
# Prints `KUBECONFIG=FILE` (an administrator's) once the server is ready. It ends, and removes everything, when its
# standard input closes (so a test holds the other end of a pipe), on INT or TERM, or when a server ends. Beside FILE
# lie apiserver.pid, etcd.pid and their logs: to see the server away for a while, stop and continue its process.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(readlink -f "$here/../../.tools/kubernetes")/bin
. "$here/keys.sh"

port=
while [ $# -gt 0 ]; do
  case $1 in
    --port) port=$2; shift 2 ;;
    --) shift; break ;;
    *) echo "usage: apiserver.sh [--port PORT] [-- FLAG_OF_KUBE_APISERVER...]" >&2; exit 2 ;;
  esac
done
for program in etcd kube-apiserver; do
  [ -x "$bin/$program" ] || { echo "apiserver.sh: no $program: run .ci/setup-kubernetes api first" >&2; exit 1; }
done

# Below the ports that the kernel gives to clients, so that none of them can be there first.
taken() { grep -q ":$(printf %04X "$1") 0*:0000 0A" /proc/net/tcp /proc/net/tcp6; }
while [ -z "$port" ] || taken "$port"; do port=$((20000 + RANDOM % 12000)); done

dir=$(mktemp -d "${TMPDIR:-/tmp}/trainyard-apiserver.XXXXXX")
servers=()
finish() {
  trap '' INT TERM
  exec 2> /dev/null             # else the shell reports each that it ended
  [ ${#servers[@]} = 0 ] || kill -9 "${servers[@]}" || true   # nothing here is worth a slow goodbye
  wait
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$dir"

make_authority
make_key apiserver /CN=kube-apiserver IP:127.0.0.1,DNS:localhost
make_key admin /O=system:masters/CN=admin DNS:admin
make_kubeconfig admin "https://127.0.0.1:$port"
mv admin.kubeconfig kubeconfig

# start NAME COMMAND...: ends with this script, even if that is killed with no chance to clean up.
start() {
  local name=$1
  shift
  setpriv --pdeathsig KILL "$@" < /dev/null > "$name.log" 2>&1 &
  servers+=($!)
  echo $! > "$name.pid"
}
# etcd is reached by a socket in this folder: one port less to find free. Its data need not outlive the machine.
start etcd "$bin/etcd" --data-dir=etcd --unsafe-no-fsync --log-level=warn \
  --listen-client-urls="unix://$dir/etcd.sock" --advertise-client-urls="unix://$dir/etcd.sock" \
  --listen-peer-urls=http://127.0.0.1:0 --initial-advertise-peer-urls=http://localhost:0 \
  --initial-cluster=default=http://localhost:0
# The endpoints of the Service `kubernetes` may not be a loopback address, so nobody keeps them. Without an address of its own it looks
# for a default route, which a machine or a network namespace need not have.
start apiserver "$bin/kube-apiserver" --etcd-servers="unix://$dir/etcd.sock" \
  --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$port" --endpoint-reconciler-type=none \
  --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
  --authorization-mode=RBAC --disable-admission-plugins=ServiceAccount --allow-privileged=true \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/service-accounts.pub \
  --service-account-signing-key-file=pki/service-accounts.key --service-cluster-ip-range=10.96.0.0/16 "$@"

# The reader of standard input ends when that closes.
exec 3<&0
cat <&3 > /dev/null &
servers+=($!)
exec 3<&-

alive() { for pid in "${servers[@]}"; do kill -0 "$pid" 2> /dev/null || return 1; done; }
ask() { curl -s --max-time 2 --cacert pki/ca.crt --cert pki/admin.crt --key pki/admin.key "https://127.0.0.1:$port$1"; }
deadline=$((SECONDS + 60))
until [ "$(ask /readyz)" = ok ]; do
  if ! alive || [ $SECONDS -gt $deadline ]; then
    echo "apiserver.sh: the API server did not come up (or standard input was closed):" >&2
    tail -n 5 etcd.log apiserver.log >&2
    exit 1
  fi
  sleep 0.05
done
echo "KUBECONFIG=$dir/kubeconfig"
wait -n 2> /dev/null || true
for name in etcd apiserver; do
  kill -0 "$(cat $name.pid)" 2> /dev/null || echo "apiserver.sh: $name ended: $(tail -n 1 $name.log)" >&2
done
