#!/usr/bin/env bash
# Line coverage of the domain by its own tests, with a floor. Everything a calendar decides is in there, and
# needs no server.
#
# Needs the tools of the compiler's own LLVM: rustup component add llvm-tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Per cent of lines; raise it when it is passed for good.
floor=85
tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
if [ ! -x "$tools/llvm-cov" ]; then
  echo "coverage: llvm-cov is missing; rustup component add llvm-tools" >&2
  exit 3
fi
out=${CARGO_TARGET_DIR:-target}/coverage
rm -rf "$out/profiles"
# A folder of its own: nothing else is compiled with these flags.
export CARGO_TARGET_DIR=$out RUSTFLAGS="-C instrument-coverage"
export LLVM_PROFILE_FILE="$PWD/$out/profiles/%p-%m.profraw"
case $out in /*) LLVM_PROFILE_FILE=$out/profiles/%p-%m.profraw ;; esac
binaries=() objects=()
while read -r binary; do
  binaries+=("$binary") objects+=(--object "$binary")
done < <(cargo test --quiet --profile quick -p almanac-domain --lib --tests --no-run --message-format=json |
  python3 -c '
import json, sys
for line in sys.stdin:
    found = json.loads(line)
    if found.get("executable"):
        print(found["executable"])
')
[ ${#binaries[@]} -gt 0 ] || { echo "coverage: the tests of the domain do not compile" >&2; exit 1; }
for binary in "${binaries[@]}"; do
  # Where cargo would run it, too.
  (cd domain && "$binary" --quiet) >"$out.log" 2>&1 || { cat "$out.log" >&2; exit 1; }
done
"$tools/llvm-profdata" merge --sparse "$out"/profiles/*.profraw -o "$out/domain.profdata"
cov() {
  "$tools/llvm-cov" "$1" "${@:2}" "${objects[@]}" --instr-profile="$out/domain.profdata" --sources domain/src
}
cov report --show-region-summary=false --show-branch-summary=false
cov export --summary-only >"$out/summary.json"
python3 - "$out/summary.json" "$floor" <<'P'
import json
import sys

with open(sys.argv[1]) as file:
    lines = json.load(file)["data"][0]["totals"]["lines"]
floor = float(sys.argv[2])
share = 100 * lines["covered"] / lines["count"]
print(f"coverage of the domain: {share:.1f} % of {lines['count']} lines; {floor:.0f} % are wanted")
sys.exit(share < floor)
P
