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
    # The common name is the user in the broker's access list: a box must not get the office's by asking for it.
    [ "$(openssl req -in "$1.csr" -noout -subject -nameopt RFC2253)" = "subject=CN=$2" ] ||
        { echo "$1.csr asks for another name than CN=$2" >&2; exit 1; }
    [ -f "$1.pem" ] || openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -out "$1.pem" -extfile <(echo "subjectAltName=$3")
}
# A host that is called by its address is looked for among the addresses (RFC 6125 1.7.2).
case "$host" in
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
esac
case "$host" in *:*) kind=IP ;; esac
sign broker "$host" "$kind:$host"
sign office office DNS:office
for site in "$@"; do sign "$site" "$site" "DNS:$site"; done
