#!/bin/bash
# Builds the device's binary (without simulator and office) for a board:
#   cross/build.sh aarch64|armv7 [PROFILE]
# Uses the rustup target if it is installed, else Debian's cross standard library.
# Prints the binary and its size.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
    aarch64) target=aarch64-unknown-linux-gnu; gcc=aarch64-linux-gnu-gcc; arch=arm64 ;;
    armv7) target=armv7-unknown-linux-gnueabihf; gcc=arm-linux-gnueabihf-gcc; arch=armhf ;;
    *) echo "usage: cross/build.sh aarch64|armv7" >&2; exit 2 ;;
esac
profile="${2:-edge}"
upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${upper}_LINKER=$gcc" "CC_${target//-/_}=$gcc"
if ! command -v "$gcc" >/dev/null; then
    echo "$gcc is missing: apt-get install gcc-${gcc%-gcc}" >&2
    exit 1
fi
if ! rustc --print target-libdir --target "$target" 2>/dev/null | xargs -I{} test -d {}; then
    if [ ! -d "/usr/lib/rustlib/$target" ] && ! ls -d /usr/lib/rustlib/"$target" >/dev/null 2>&1; then
        echo "no standard library for $target: rustup target add $target, or on Debian:" >&2
        echo "  dpkg --add-architecture $arch && apt-get update && apt-get install rustc-web libstd-rust-web-dev:$arch" >&2
        exit 1
    fi
    export RUSTC=/usr/bin/rustc
fi
cargo build --no-default-features --profile "$profile" --target "$target" --target-dir target/cross
binary="target/cross/$target/$profile/taimat"
echo "$binary $(stat -c %s "$binary") bytes"
