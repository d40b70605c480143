# shellcheck shell=bash
# Keys and kubeconfig files of a throw-away cluster, in the current folder. Source it. Used by up.sh and apiserver.sh.
# All keys are on the curve P-256, which takes milliseconds where RSA takes seconds.

# make_authority: pki/ca.*, which signs everything else, and pki/service-accounts.*, which signs pods' tokens.
make_authority() {
  mkdir -p pki
  openssl ecparam -name prime256v1 -genkey -noout -out pki/ca.key
  openssl req -x509 -new -key pki/ca.key -out pki/ca.crt -subj /CN=trainyard-test -days 365
  openssl ecparam -name prime256v1 -genkey -noout -out pki/service-accounts.key
  openssl ec -in pki/service-accounts.key -pubout -out pki/service-accounts.pub 2> /dev/null
}

# make_key NAME SUBJECT ALTERNATIVE_NAMES: pki/NAME.key and pki/NAME.crt, good for a server and for a client.
make_key() {
  openssl ecparam -name prime256v1 -genkey -noout -out "pki/$1.key"
  openssl req -new -key "pki/$1.key" -subj "$2" |
    openssl x509 -req -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 365 -out "pki/$1.crt" 2> /dev/null \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=clientAuth,serverAuth' "$3")
}

# make_kubeconfig NAME SERVER: NAME.kubeconfig, which carries its keys, so that it may be copied.
make_kubeconfig() {
  local ca crt key
  ca=$(base64 -w0 pki/ca.crt)
  crt=$(base64 -w0 "pki/$1.crt")
  key=$(base64 -w0 "pki/$1.key")
  cat > "$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: trainyard, cluster: {server: "$2", certificate-authority-data: $ca}}]
users: [{name: $1, user: {client-certificate-data: $crt, client-key-data: $key}}]
contexts: [{name: trainyard, context: {cluster: trainyard, user: $1}}]
current-context: trainyard
YAML
}
