#!/bin/bash
# A private authority, and certificates for the broker, the office and sites: make-certs.sh DIR BROKER_HOST SITE...
# A site's real key should be made on its box (taimat keygen) and only its request signed here: put SITE.csr into DIR first.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: make-certs.sh DIR BROKER_HOST [SITE...]" >&2; exit 2; }
dir=$1 host=$2
shift 2
umask 077
mkdir -p "$dir"
cd "$dir"
[ -f ca.key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout ca.key -out ca.pem -subj /CN=taimat-ca
sign() { # name, common name, subject alternative name
    [ -f "$1.csr" ] || openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
    [ -f "$1.pem" ] || openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -out "$1.pem" -extfile <(echo "subjectAltName=$3")
}
sign broker "$host" "DNS:$host"
sign office office DNS:office
for site in "$@"; do sign "$site" "$site" "DNS:$site"; done
