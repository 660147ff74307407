#!/bin/bash
# Executes the commands of deploy/README.md, device and office on this machine:
#   deploy.sh WORK BINARY CAMERA_URL PORT OFFICE_PORT
# Run it as root in its own mount and pid namespaces (unshare -mpf). System directories are overlays, so
# this machine is not changed. Exit code 77: overlays are not allowed.
set -euo pipefail
work=$1 binary=$2 camera=$3 port=$4 office_port=$5
repository=$(cd "$(dirname "$0")/../.." && pwd)

# The upper directory of an overlay cannot lie on an overlay, so it is a tmpfs.
mount -t tmpfs tmpfs "$work" || exit 77
for dir in /etc /usr/bin /var/lib /var/log /run; do
    mkdir -p "$work/over$dir"/{upper,work}
    mount -t overlay overlay -o "lowerdir=$dir,upperdir=$work/over$dir/upper,workdir=$work/over$dir/work" "$dir" || exit 77
done

# block N: prints the Nth block of commands.
block() {
    awk -v n="$1" '/^```sh/ { on = (++at == n); next } /^```/ { on = 0 } on' "$repository/deploy/README.md"
}

# unit NAME KEY: prints a value of an installed unit.
unit() {
    sed -n "s/^$2=//p" "/etc/systemd/system/$1.service"
}

# start NAME: starts a unit's program with its User=, StateDirectory=, RuntimeDirectory=, UMask=,
# LimitNOFILE= and LimitCORE=.
start() {
    local user
    user=$(unit "$1" User)
    install -d -o "$user" -g "$(unit "$1" Group)" -m "$(unit "$1" StateDirectoryMode)" "/var/lib/$(unit "$1" StateDirectory)" "/run/$1"
    # shellcheck disable=SC2046 # The unit's lines are words without quotes.
    (umask "$(unit "$1" UMask)" && ulimit -c "$(unit "$1" LimitCORE)" && ulimit -n "$(unit "$1" LimitNOFILE | grep . || ulimit -n)" &&
        RUNTIME_DIRECTORY=/run/$1 exec runuser -u "$user" -- $(unit "$1" ExecStart)) &
}

# Stand-in for systemd and Debian's unit of Mosquitto.
systemctl() {
    echo "systemctl $*"
    case "$*" in
        "restart mosquitto")
            install -d -o mosquitto /run/mosquitto
            mosquitto -c /etc/mosquitto/mosquitto.conf &
            ;;
        "enable --now taimat")
            # shellcheck disable=SC2046 # The unit's lines are words without quotes.
            runuser -u "$(unit taimat User)" -- $(unit taimat ExecStartPre | sed 's/^-//')
            start taimat
            ;;
        "enable --now taimat-office")
            start taimat-office
            ;;
    esac
}

# wait_for SECONDS COMMAND...: waits until the command succeeds.
wait_for() {
    local left=$(($1 * 5))
    shift
    until "$@"; do
        [ $((left -= 1)) -gt 0 ] || { echo "timeout: $*" >&2; return 1; }
        sleep 0.2
    done
}

# The README's command for listing sites.
sites() {
    eval "$(block 5 | head -1)" 2>/dev/null | grep "^$1"
}

# State of both machines before the first command.
mkdir -p "$work"/device "$work"/office/target/release /var/lib/taimat-ca
for machine in device office; do
    cp -r "$repository/deploy" "$work/$machine/"
    sed -i -e "s/^listener 8883$/listener $port 127.0.0.1/" -e "s/^listener 8884$/listener $office_port 127.0.0.1/" "$work/$machine/deploy/mosquitto/taimat.conf"
    sed -i "s/--port 8884/--port $office_port/" "$work/$machine/deploy/taimat-office.service"
done
ln -s "$binary" "$work/device/taimat"
ln -s "$binary" "$work/office/target/release/taimat"
echo "tmpfs /var/lib/taimat tmpfs size=200m 0 0" >>/etc/fstab
echo "127.0.0.1 office.example" >>/etc/hosts

set -x
cd "$work/device"
eval "$(block 1)"
[ "$(stat -c '%U %a' /etc/taimat/km-17.key)" = "taimat 600" ]
cp /etc/taimat/km-17.csr /var/lib/taimat-ca/
cd "$work/office"
eval "$(block 2)"
cd "$work/device"
cp /var/lib/taimat-ca/{ca,km-17}.pem .
sed -i -e "s|^main_url = .*|main_url = \"$camera\"|" -e "s/^# port = 8883$/port = $port/" \
    -e 's/^# budget = .*/budget = "64 MiB"/' -e 's/^# segment = .*/segment = "4 MiB"/' deploy/taimat.toml
echo "admin:taimat" >camera.login
eval "$(block 3)"
# Device and office share this machine: the office must not replace a binary that is being started.
wait_for 20 test -e /var/lib/taimat/ring/seg-00000.mp4
cd "$work/office"
eval "$(block 4)"
wait_for 20 sites km-17
wait_for 20 sites "km-17 *online"
eval "$(block 5 | sed "s/--port 8884/--port $office_port/")"
# Only its user may read the archive, and the office cannot read the keys of the authorities.
[ "$(stat -c '%U %a' /var/lib/taimat-office)" = "taimat-office 700" ]
[ -z "$(find /var/lib/taimat-office /etc/taimat-office \( -not -user taimat-office -o -perm /077 \) -print)" ]
[ -z "$(find /etc/taimat-office -name '*ca.key')" ]
runuser -u taimat-office -- test ! -r /var/lib/taimat-ca
