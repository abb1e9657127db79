#!/usr/bin/env bash
# Runs the benchmarks on this machine and writes docs/performance.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
command -v wrk >/dev/null || { echo "missing: wrk (Debian: apt-get install wrk)" >&2; exit 1; }
command -v curl >/dev/null || { echo "missing: curl" >&2; exit 1; }
command -v taskset >/dev/null || { echo "missing: taskset (Debian: apt-get install util-linux)" >&2; exit 1; }
command -v "${CHROMIUM:-chromium}" >/dev/null || { echo "missing: chromium (Debian: apt-get install chromium)" >&2; exit 1; }
command -v node >/dev/null || { echo "missing: node" >&2; exit 1; }
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
