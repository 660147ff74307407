#!/bin/bash
# Builds the office's binary twice, of the commit before the console was merged and of this tree, and prints both sizes in bytes.
#   benches/console/binary_size.sh [COMMIT]
# Both: profile release, without the simulator, stripped, by the same compiler. The builds share target/console-size.
set -euo pipefail
cd "$(dirname "$0")/../.."
base=${1:-aa79dd4}
out=$PWD/target/console-size
git rev-parse -q --verify "$base^{commit}" >/dev/null 2>&1 || { echo "SKIPPED: the history has no commit $base"; exit 77; }
rm -rf "$out/base"
mkdir -p "$out/base"
git archive "$base" | tar -x -C "$out/base"

# built NAME DIR: builds the package in DIR, prints the size of its stripped binary.
built() {
    cargo build --manifest-path "$2/Cargo.toml" --target-dir "$out/target" --release --locked --no-default-features --features office >&2
    strip -o "$out/taimat-$1" "$out/target/release/taimat"
    stat -c %s "$out/taimat-$1"
}
before=$(built before "$out/base")
now=$(built now .)
echo "before $before now $now"
