#!/usr/bin/env bash
# Runs the benchmarks on this machine and writes docs/performance.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
needs() { # A program, and its package in Debian.
  command -v "$1" >/dev/null || { echo "missing: $1${2:+ (Debian: apt-get install $2)}" >&2; exit 1; }
}
needs wrk wrk
needs curl
needs taskset util-linux
needs "${CHROMIUM:-chromium}" chromium
needs node
[[ -d tests/console/node_modules ]] || { echo "missing: what drives a browser (make clients)" >&2; exit 1; }
tests/stack/stack.sh up >/dev/null
set -a
# shellcheck disable=SC1090
. <(tests/stack/stack.sh env)
set +a
trap 'tests/stack/stack.sh down' EXIT
report=$(mktemp)
"${CARGO_TARGET_DIR:-target}"/release/almanac-bench report > "$report"
{
  cat tests/bench/preamble.md
  printf 'Measured on %s, %s cores, %s, %s GiB of memory, load generator and servers included.\n\n' \
    "$(date -u +%Y-%m-%d)" "$(nproc)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" \
    "$(awk '/MemTotal/ {printf "%d", $2 / 1048576}' /proc/meminfo)"
  cat "$report" tests/bench/limits.md
} > docs/performance.md
rm "$report"
echo "wrote docs/performance.md"
