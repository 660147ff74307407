#!/bin/bash
# Makes two private authorities and certificates for broker, office and sites:
#   make-certs.sh DIR BROKER_HOST SITE...
# ca.pem signs the broker and devices, office-ca.pem only the office: the broker has a listener for each.
# Make a site's key on its device (taimat keygen), and put SITE.csr into DIR: then only the request is
# signed here. Existing files are kept.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: make-certs.sh DIR BROKER_HOST [SITE...]" >&2; exit 2; }
dir=$1 host=$2
shift 2
# Reserved site ids (src/units.rs), and names of files that this script makes.
for site in "$@"; do
    case "$site" in
        host | fleet | enrol | witness | office | claim-* | taimat-*) echo "$site: this site id is reserved; choose another" >&2; exit 1 ;;
        broker | ca | office-ca) echo "$site: this script makes files of that name; choose another site id" >&2; exit 1 ;;
        "" | *[!a-z0-9-]*) echo "$site: a site id has 1 to 32 characters of a-z, 0-9 and '-'" >&2; exit 1 ;;
    esac
    [ ${#site} -le 32 ] || { echo "$site: a site id has 1 to 32 characters of a-z, 0-9 and '-'" >&2; exit 1; }
done
umask 077
mkdir -p "$dir"
cd "$dir"
authority() { # name
    [ -f "$1.key" ] ||
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout "$1.key" -out "$1.pem" -subj "/CN=taimat-$1"
}
sign() { # authority, name of the files, common name, subject alternative name, server or client
    [ -f "$2.csr" ] || openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$2.key" -out "$2.csr" -subj "/CN=$3"
    # The common name is the user in the broker's access list and a device's client id: a request for
    # another name must not be signed.
    [ "$(openssl req -in "$2.csr" -noout -subject -nameopt RFC2253)" = "subject=CN=$3" ] ||
        { echo "$2.csr does not request CN=$3; for a new name remove $2.csr and $2.pem in $dir first" >&2; exit 1; }
    [ -f "$2.pem" ] || openssl x509 -req -in "$2.csr" -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -days 825 -out "$2.pem" \
        -extfile <(printf '%s\n' "subjectAltName=$4" basicConstraints=critical,CA:FALSE "extendedKeyUsage=${5}Auth")
}
authority ca
authority office-ca
# A client compares an address with the iPAddress names only (RFC 6125 1.7.2).
case "$host" in
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
esac
case "$host" in *:*) kind=IP ;; esac
sign ca broker "$host" "$kind:$host" server
sign office-ca office office DNS:office client
for site in "$@"; do sign ca "$site" "$site" "DNS:$site" client; done
